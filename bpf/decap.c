//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * decap takes the outer header off packets that a director in mode TUN sent to this server, and lets the inner packet go up the
 * stack as if it had been received plainly on the same interface. It stands in for the kernel's tunl0 where there is no ipip
 * module. The server has the VIP on lo, as for DR.
 *
 * The outer ECN field is not carried inwards (RFC 6040 section 4.2), unlike tunl0's.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

volatile const __be32 own_ipv4; /* where the outer packets are sent to */

__u64 decapsulated; /* packets */

/* The outer headers' length and what is inside; nothing is decapsulated when length is 0. A new encapsulation is one more
 * function that fills this. */
struct inner {
	__u32 length;
	__be16 ethertype;
};

/* RFC 2003: the inner packet follows the outer IPv4 header at once. */
static __always_inline struct inner outer_ipv4(const struct iphdr *ip, const void *end)
{
	struct inner none = {}, found = {};

	if ((const void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return none;
	if (ip->daddr != own_ipv4 || (ip->frag_off & bpf_htons(0x3fff)))
		return none;
	if (ip->protocol == IPPROTO_IPIP)
		found.ethertype = bpf_htons(ETH_P_IP);
	else if (ip->protocol == IPPROTO_IPV6)
		found.ethertype = bpf_htons(ETH_P_IPV6); /* RFC 4213 section 3 */
	else
		return none;
	found.length = ip->ihl * 4;
	return found;
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	const void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct ethhdr header;
	struct inner inner;

	if ((const void *)(eth + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	inner = outer_ipv4((const void *)(eth + 1), end);
	if (!inner.length)
		return XDP_PASS;

	header = *eth;
	header.h_proto = inner.ethertype;
	if (bpf_xdp_adjust_head(ctx, inner.length)) /* refuses to leave less than an Ethernet header */
		return XDP_PASS;
	eth = (void *)(long)ctx->data;
	if ((const void *)(eth + 1) > (const void *)(long)ctx->data_end)
		return XDP_DROP;
	*eth = header;
	__sync_fetch_and_add(&decapsulated, 1);
	return XDP_PASS;
}
