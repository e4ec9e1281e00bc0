//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * traffic is the load of the benchmarks. generate, run by BPF_PROG_RUN on live frames, sends copies of one packet out of an
 * interface, each from the source address and port of its flow. sink, attached to an interface, counts what arrives and drops it.
 * redirect, attached to an interface, sends what arrives out of another: the least that any forwarder can do.
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
 * What to send, set by NewGenerator: packets that take turns, each with a head of its own. Frames come back from a page pool with
 * whatever the receiver made of their headers, so all of them are written anew each time: the first HEAD bytes, or as many as the
 * least frame has. They are as long as the longest packet; the others are cut.
 */
#define LEAST 60
#define HEAD 80
#define PACKETS 16

struct packet {
	__u64 head[HEAD / 8];
	__u64 surplus; /* bytes to cut */
};

volatile const struct packet packets[PACKETS];
volatile const __u32 packet_count = 1;
volatile const __u32 out_ifindex;
volatile const __u32 first_addr; /* the last four bytes of the first flow's source address, host order */
volatile const __u32 first_port, ports = 1;

/* Flow number n has source address n / ports and port n % ports, which are counted along instead of divided. */
struct source {
	__u32 number, addr, port;
};
volatile const struct source stride = { 1, 0, 0 }; /* from flow to flow; less than all */
volatile const struct source all = { 1, 1, 0 };
volatile const __u32 addr_at, port_at, l4_check_at; /* offsets in the frame */
volatile const __u32 ip_check_at;		    /* 0: IPv6 has none */
volatile const __u32 l4_check_kept;		    /* UDP without a checksum stays without */
volatile const __u32 is_udp;

volatile const __u32 stamp_at;

/* Written by the program while it runs, by its owner in between. */
struct source next;
__u32 turn; /* whose of the packets it is */
__u64 sent;
__u64 until; /* a run that is interrupted is run again in full: no more than this many in all */
__u64 gap;   /* from packet to packet, in ns << GAP_SHIFT; 0: none */
__u64 due;   /* when the next one is to leave, likewise */
__u32 stamp; /* one packet in so many, a power of two, carries the time; 0: none */

#define GAP_SHIFT 6
#define PATIENCE (250000ULL << GAP_SHIFT) /* what is missed by more is not made up for */

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

/* advance goes on to the next flow, and after the last to the first. */
static __always_inline void advance(void)
{
	next.number += stride.number;
	next.addr += stride.addr;
	next.port += stride.port;
	if (next.port >= ports) {
		next.port -= ports;
		next.addr++;
	}
	if (next.number >= all.number) {
		next.number -= all.number;
		next.addr -= all.addr;
		if (next.port < all.port) {
			next.port += ports;
			next.addr--;
		}
		next.port -= all.port;
	}
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	volatile const struct packet *packet = &packets[turn & (PACKETS - 1)];
	__u64 *word = data;
	__u32 delta, l4_delta = 0;
	__be32 *saddr;
	__be16 *sport, *check;
	__be32 new_addr;
	__be16 new_port;
	__u64 now;
	int i;

	if (sent >= until || data + LEAST > end)
		return XDP_DROP;
	if (gap) {
		now = bpf_ktime_get_ns() << GAP_SHIFT;
		if (now < due)
			return XDP_DROP;
		due = now > due + PATIENCE ? now - PATIENCE : due;
		due += gap;
	}
#pragma unroll
	for (i = 0; i < LEAST / 8; i++)
		word[i] = packet->head[i];
	if (data + HEAD <= end) {
#pragma unroll
		for (i = LEAST / 8; i < HEAD / 8; i++)
			word[i] = packet->head[i];
	} else {
		*(__u32 *)&word[LEAST / 8] = packet->head[LEAST / 8]; /* LEAST is 4 more than 7 words; this machine is little-endian */
	}

	saddr = at(data, end, addr_at, sizeof(*saddr));
	sport = at(data, end, port_at, sizeof(*sport));
	check = at(data, end, l4_check_at, sizeof(*check));
	if (!saddr || !sport || !check)
		return XDP_DROP;
	new_addr = bpf_htonl(first_addr + next.addr);
	new_port = bpf_htons(first_port + next.port);

	/* RFC 1624, equation 3: HC' = ~(~HC + ~m + m') */
	delta = (~*saddr & 0xffff) + (~*saddr >> 16) + (new_addr & 0xffff) + (new_addr >> 16);
	if (ip_check_at) {
		__be16 *ip_check = at(data, end, ip_check_at, sizeof(*ip_check));

		if (!ip_check)
			return XDP_DROP;
		*ip_check = ~fold((__u16)~*ip_check + delta);
	}
	if (stamp && !(sent & (stamp - 1))) {
		__u32 *time = at(data, end, stamp_at, sizeof(*time));
		__u32 was;

		if (!time)
			return XDP_DROP;
		was = ~*time;
		*time = (__u32)bpf_ktime_get_ns() | 1; /* 0 means there is none */
		l4_delta = (was & 0xffff) + (was >> 16) + (*time & 0xffff) + (*time >> 16);
	}
	if (!l4_check_kept) {
		delta += l4_delta;
		*check = ~fold((__u16)~*check + delta + (__u16)~*sport + new_port);
		if (is_udp && !*check)
			*check = 0xffff; /* RFC 768: 0 would mean there is none */
	}
	*saddr = new_addr;
	*sport = new_port;

	sent++;
	advance();
	if (packet_count > 1) {
		turn = turn + 1 < packet_count ? turn + 1 : 0;
		if (packet->surplus && bpf_xdp_adjust_tail(ctx, -(int)packet->surplus))
			return XDP_DROP;
	}
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

/* One packet in so many to a MAC, a power of two, is kept whole; 0: none. The latest SAMPLES of them are there to be read. */
#define SAMPLES 1024
volatile const __u32 sample_one_in;
__u32 sampled;

struct sample {
	__u32 length;
	__u8 data[2048];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SAMPLES);
	__type(key, __u32);
	__type(value, struct sample);
} samples SEC(".maps");

static __always_inline void keep(struct xdp_md *ctx, __u64 length)
{
	__u32 slot = sampled++ % SAMPLES; /* two CPUs at once may take the same slot: one sample less */
	struct sample *s = bpf_map_lookup_elem(&samples, &slot);

	if (!s)
		return;
	if (length < ETH_HLEN)
		return;
	asm volatile("" : "+r"(length)); /* two checks on one register: Linux 6.1 does not understand what clang makes of both in one */
	if (length > sizeof(s->data))
		return;
	s->length = length;
	if (bpf_xdp_load_bytes(ctx, 0, s->data, length))
		s->length = 0;
}

/*
 * How long stamped packets took, in ns: below 16 each value has a bucket of its own, above it each power of two has 16. Read and
 * named by latency.go.
 */
#define BUCKETS 512
volatile const __u32 measure_latency;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
} latencies SEC(".maps");

static __always_inline void measure(void *data, void *end)
{
	struct iphdr *ip = data + sizeof(struct ethhdr);
	__u32 ns, power = 4, bucket, *time;
	__u64 *count;
	void *l4;

	if ((void *)(ip + 1) > end)
		return;
	if (ip->protocol == IPPROTO_IPIP) {
		ip++;
		if ((void *)(ip + 1) > end)
			return;
	}
	l4 = ip + 1;
	time = l4 + (ip->protocol == IPPROTO_UDP ? 8 : 20);
	if ((void *)(time + 1) > end || !*time)
		return;
	ns = (__u32)bpf_ktime_get_ns() - *time;
	bucket = ns;
	if (ns >= 16) {
		if (ns >> 20)
			power += 16;
		if (ns >> (power + 8))
			power += 8;
		if (power < 28 && ns >> (power + 4))
			power += 4;
		if (power < 30 && ns >> (power + 2))
			power += 2;
		if (power < 31 && ns >> (power + 1))
			power += 1;
		bucket = (power - 3) * 16 + ((ns >> (power - 4)) & 15);
	}
	count = bpf_map_lookup_elem(&latencies, &bucket);
	if (count)
		(*count)++;
}

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
	if (sample_one_in && !(count->packets & (sample_one_in - 1)))
		keep(ctx, end - data);
	count->packets++;
	count->bytes += end - data;
	if (measure_latency && eth->h_proto == bpf_htons(ETH_P_IP))
		measure(data, end);
	return XDP_DROP;
}

/* Destination and source of what redirect sends. */
volatile const __u32 macs[3];

SEC("xdp")
int redirect(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__u32 *word = data;

	if ((void *)(eth + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	word[0] = macs[0];
	word[1] = macs[1];
	word[2] = macs[2];
	return bpf_redirect(out_ifindex, 0);
}
