//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * traffic is the load of the benchmarks. generate, run by BPF_PROG_RUN on live frames, sends copies of one packet out of an
 * interface, each from the source address and port of its flow. sink, attached to an interface, counts what arrives and drops it.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

/*
 * What to send, set by NewGenerator. Frames come back from a page pool with whatever the receiver made of their headers, so all
 * of them are written anew each time: the first HEAD bytes, or as many as the least frame has.
 */
#define LEAST 60
#define HEAD 80

volatile const __u32 head[HEAD / 4];
volatile const __u32 out_ifindex;
volatile const __u32 flows = 1;
volatile const __u32 stride = 1; /* from flow to flow; less than flows */
volatile const __u32 first_addr; /* the last four bytes of the first flow's source address, host order */
volatile const __u32 first_port, ports = 1;
volatile const __u32 addr_at, port_at, l4_check_at; /* offsets in the frame */
volatile const __u32 ip_check_at;		    /* 0: IPv6 has none */
volatile const __u32 l4_check_kept;		    /* UDP without a checksum stays without */
volatile const __u32 is_udp;

/* Written by the program while it runs, by its owner in between. */
__u32 flow;
__u64 sent;
__u64 until; /* a run that is interrupted is run again in full: no more than this many in all */

static __always_inline __u16 fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The offsets are the loader's, but the verifier wants to see them bounded. */
static __always_inline void *at(void *data, void *end, __u32 offset, __u32 size)
{
	void *p;

	if (offset > HEAD)
		return 0;
	p = data + offset;
	return p + size > end ? 0 : p;
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 *word = data;
	__u32 addr, delta;
	__be32 *saddr;
	__be16 *sport, *check;
	__be32 new_addr;
	__be16 new_port;
	int i;

	if (sent >= until || data + LEAST > end)
		return XDP_DROP;
#pragma unroll
	for (i = 0; i < LEAST / 4; i++)
		word[i] = head[i];
	if (data + HEAD <= end) {
#pragma unroll
		for (i = LEAST / 4; i < HEAD / 4; i++)
			word[i] = head[i];
	}

	saddr = at(data, end, addr_at, sizeof(*saddr));
	sport = at(data, end, port_at, sizeof(*sport));
	check = at(data, end, l4_check_at, sizeof(*check));
	if (!saddr || !sport || !check)
		return XDP_DROP;
	addr = first_addr + flow / ports;
	new_addr = bpf_htonl(addr);
	new_port = bpf_htons(first_port + flow % ports);

	/* RFC 1624, equation 3: HC' = ~(~HC + ~m + m') */
	delta = (~*saddr & 0xffff) + (~*saddr >> 16) + (new_addr & 0xffff) + (new_addr >> 16);
	if (ip_check_at) {
		__be16 *ip_check = at(data, end, ip_check_at, sizeof(*ip_check));

		if (!ip_check)
			return XDP_DROP;
		*ip_check = ~fold((__u16)~*ip_check + delta);
	}
	if (!l4_check_kept) {
		*check = ~fold((__u16)~*check + delta + (__u16)~*sport + new_port);
		if (is_udp && !*check)
			*check = 0xffff; /* RFC 768: 0 would mean there is none */
	}
	*saddr = new_addr;
	*sport = new_port;

	sent++;
	flow += stride;
	if (flow >= flows)
		flow -= flows;
	return bpf_redirect(out_ifindex, 0);
}

struct mac {
	__u8 byte[6];
	__u8 unused[2];
};

struct count {
	__u64 packets;
	__u64 bytes; /* from the Ethernet header to the end of the packet, without FCS */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct mac);
	__type(value, struct count);
} counts SEC(".maps");

/* What hosts need to find each other is not: ARP, ICMP, ICMPv6, MLD. */
static __always_inline int is_load(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct mac mac = {};
	struct count *count, none = {};

	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end || !is_load(ip->protocol))
			return XDP_PASS;
	} else if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr *ip = (void *)(eth + 1);

		if ((void *)(ip + 1) > end || !is_load(ip->nexthdr))
			return XDP_PASS;
	} else {
		return XDP_PASS;
	}
	__builtin_memcpy(mac.byte, eth->h_dest, sizeof(mac.byte));
	count = bpf_map_lookup_elem(&counts, &mac);
	if (!count) {
		bpf_map_update_elem(&counts, &mac, &none, BPF_NOEXIST);
		count = bpf_map_lookup_elem(&counts, &mac);
		if (!count)
			return XDP_PASS; /* more MACs than any benchmark has */
	}
	count->packets++;
	count->bytes += end - data;
	return XDP_DROP;
}
