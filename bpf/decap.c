//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * decap takes the outer headers off packets that a director in mode TUN sent to this server, and lets the inner packet go up the
 * stack as if it had been received plainly on the same interface. It stands in for the kernel's tunnel devices where there are
 * none: IP in IP of either family in either, GUE and GRE. The server has the VIP on lo, as for DR.
 *
 * The outer ECN field is not carried inwards (RFC 6040 section 4.2), unlike tunl0's, and the checksums of GUE and GRE are not looked
 * at: the inner packet has its own.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

/* Where the outer packets are sent to; zero: nowhere. */
volatile const __be32 own_ipv4;
volatile const __u8 own_ipv6[16];
volatile const __be16 gue_port;

__u64 decapsulated; /* packets */

/* What is inside, and at which offset behind the Ethernet header; nothing is decapsulated when proto is 0. */
struct inner {
	__u32 at;
	__u8 proto; /* IPPROTO_IPIP or IPPROTO_IPV6 */
};

static const struct inner none;

/*
 * draft-ietf-intarea-gue section 3.1: variant 0, data. Hlen counts the words of optional fields, which are skipped unless a flag gives them a
 * meaning: one, remote checksum offload, leaves the inner packet without its own checksum (net/ipv4/fou_core.c, gue_remcsum).
 */
static __always_inline struct inner inside_gue(const void *l4, const void *end, __u32 at)
{
	const struct udphdr *udp = l4;
	const __u8 *gue = (const void *)(udp + 1);
	struct inner found = none;

	if ((const void *)(gue + 4) > end || udp->dest != gue_port || gue[0] & 0xe0 || gue[2] || gue[3])
		return none;
	found.at = at + sizeof(*udp) + 4 + (gue[0] & 0x1f) * 4;
	found.proto = gue[1];
	return found;
}

/* RFC 2784: no flag but that of the checksum, version 0. */
static __always_inline struct inner inside_gre(const void *l4, const void *end, __u32 at)
{
	const __be16 *gre = l4;
	struct inner found = none;

	if ((const void *)(gre + 2) > end || gre[0] & ~bpf_htons(0x8000))
		return none;
	found.at = at + (gre[0] ? 8 : 4);
	if (gre[1] == bpf_htons(ETH_P_IP))
		found.proto = IPPROTO_IPIP;
	else if (gre[1] == bpf_htons(ETH_P_IPV6))
		found.proto = IPPROTO_IPV6;
	return found;
}

/* RFC 2003, RFC 2473, RFC 4213: IP in IP follows at once. */
static __always_inline struct inner inside(__u8 proto, const void *l4, const void *end, __u32 at)
{
	struct inner found = { .at = at, .proto = proto };

	switch (proto) {
	case IPPROTO_UDP:
		return inside_gue(l4, end, at);
	case IPPROTO_GRE:
		return inside_gre(l4, end, at);
	}
	return found;
}

static __always_inline struct inner outer_ipv4(const struct iphdr *ip, const void *end)
{
	__u32 length;

	if ((const void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5)
		return none;
	if (ip->daddr != own_ipv4 || (ip->frag_off & bpf_htons(0x3fff)))
		return none;
	length = ip->ihl * 4;
	return inside(ip->protocol, (const void *)ip + length, end, length);
}

static __always_inline struct inner outer_ipv6(const struct ipv6hdr *ip, const void *end)
{
	if ((const void *)(ip + 1) > end || ip->version != 6)
		return none;
	for (int i = 0; i < 16; i++)
		if (ip->daddr.in6_u.u6_addr8[i] != own_ipv6[i])
			return none;
	return inside(ip->nexthdr, ip + 1, end, sizeof(*ip));
}

SEC("xdp")
int decap(struct xdp_md *ctx)
{
	const void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct inner inner = none;
	struct ethhdr header;

	if ((const void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP))
		inner = outer_ipv4((const void *)(eth + 1), end);
	else if (eth->h_proto == bpf_htons(ETH_P_IPV6))
		inner = outer_ipv6((const void *)(eth + 1), end);

	header = *eth;
	if (inner.proto == IPPROTO_IPIP)
		header.h_proto = bpf_htons(ETH_P_IP);
	else if (inner.proto == IPPROTO_IPV6)
		header.h_proto = bpf_htons(ETH_P_IPV6);
	else
		return XDP_PASS;
	if (bpf_xdp_adjust_head(ctx, inner.at)) /* refuses to leave less than an Ethernet header */
		return XDP_PASS;
	eth = (void *)(long)ctx->data;
	if ((const void *)(eth + 1) > (const void *)(long)ctx->data_end)
		return XDP_DROP;
	*eth = header;
	__sync_fetch_and_add(&decapsulated, 1);
	return XDP_PASS;
}
