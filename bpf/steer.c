//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * steer looks at every frame an interface receives and redirects to the queue's AF_XDP socket those that are weir's: sent to a
 * service, sent where a firewall mark may be given, sent to a local address inside its port range, or coming from a NAT server; fragments
 * of such, and ICMP errors about such or about weir's own tunnels. Everything else goes on to the kernel. It decides nothing else; what it redirects is judged by a worker, which can give it back.
 *
 * One program object per interface, with its own MAC addresses and sockets; all other maps are shared by the interfaces.
 *
 * A VLAN tag is seen only where it is in the frame: a NIC that strips it on receive (ethtool rxvlan) hides it from XDP.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer.h"

char _license[] SEC("license") = "GPL";

/* Why a frame went where it went. The names, in lower case, are the names of the counters. Keep the redirects last. */
enum verdict {
	PASS_MALFORMED,	    /* a header is cut off or contradicts the frame: the kernel drops it, and counts it where it counts such */
	PASS_FOREIGN_MAC,   /* not for this interface: flooded by a switch, broadcast, multicast */
	PASS_OTHER,	    /* nothing of weir's: ARP, ping, ssh, routing protocols, ... */
	PASS_FRAGMENT,	    /* of nothing of weir's */
	PASS_ICMP_ERROR,    /* about nothing of weir's */
	PASS_EXTENSION,	    /* IPv6 with extension headers that are the kernel's */
	PASS_OWN,	    /* from a NAT server to the host itself: health checks, ssh */
	PASS_NO_SOCKET,	    /* weir's, but nobody serves the queue */
	PASS_REENTRY,	    /* given back by the host path */
	REDIRECT_SERVICE,
	REDIRECT_LOCAL,
	REDIRECT_NAT,
	REDIRECT_MARK,
	REDIRECT_FRAGMENT,
	REDIRECT_ICMP_ERROR,
	VERDICTS,
};

/* IPv4 addresses are held as ::ffff:a.b.c.d, RFC 4291 section 2.5.5.2. */
struct address {
	__u8 byte[16];
} __attribute__((aligned(4)));

/* Where a service is addressed, or a NAT server answers from. Port 0 is any port. */
struct endpoint {
	struct address addr;
	__be16 port;
	__u8 proto;
	__u8 zero;
};

/* Ports in host order, both included. */
struct port_range {
	__u16 lo, hi;
};

/*
 * The packets to a prefix that a firewall mark's rules may name: of a protocol (0: any) and to ports in a range. A longer prefix
 * has the ranges of those around it as well, because only the longest is found. Unused ranges end before they start.
 */
#define PREFIX_RANGES 8

struct prefix_range {
	struct port_range ports;
	__u8 proto;
	__u8 zero[3];
};

struct prefix_ranges {
	struct prefix_range range[PREFIX_RANGES];
};

struct prefix {
	__u32 bits; /* of addr: 96 more than an IPv4 prefix has */
	struct address addr;
};

struct mac {
	__u8 byte[ETH_ALEN];
};

/* Sizes are set when the maps are created; memory is taken as entries are added. */
#define HASH(name, key_type, value_type)                                                                                   \
	struct {                                                                                                           \
		__uint(type, BPF_MAP_TYPE_HASH);                                                                           \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                      \
		__uint(max_entries, 1);                                                                                    \
		__type(key, key_type);                                                                                     \
		__type(value, value_type);                                                                                 \
	} name SEC(".maps")

HASH(services, struct endpoint, __u8);
HASH(locals, struct address, struct port_range);
HASH(nat_servers, struct endpoint, __u8);
HASH(own_addresses, struct address, __u8);
HASH(service_addresses, struct address, __u8); /* those in services: a later fragment has no port */
HASH(server_addresses, struct address, __u8);  /* those in nat_servers */
HASH(tunnels, struct address, __u8);	       /* TUN servers */
HASH(accepted_macs, struct mac, __u8); /* beside own_mac; this interface only */

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* the only way for this type */
	__uint(max_entries, 1);
	__type(key, struct prefix);
	__type(value, struct prefix_ranges);
} prefixes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps"); /* by receive queue; this interface only */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, enum verdict);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} injector SEC(".maps"); /* inject.c */

volatile const struct mac own_mac;
volatile const __u64 reentry_secret;

/* A length from a header. The verifier of Linux 6.1 does not know that a swapped value has 16 bits, and clang would leave the mask out. */
static __always_inline __u32 length_of(__be16 field)
{
	__u32 length = bpf_ntohs(field);

	asm volatile("" : "+r"(length));
	return length & 0xffff;
}

static __always_inline int own_or_accepted(const struct ethhdr *eth)
{
	struct mac dst;

	__builtin_memcpy(dst.byte, eth->h_dest, ETH_ALEN);
	for (int i = 0; i < ETH_ALEN; i++)
		if (dst.byte[i] != own_mac.byte[i])
			return bpf_map_lookup_elem(&accepted_macs, &dst) != NULL;
	return 1;
}

/* What the maps are asked about. */
struct flow {
	struct address src, dst;
	__be16 sport, dport;
	__u8 proto;
	enum { PACKET, FRAGMENT, QUOTED } what;
};

/* The headers were read: ask the maps. */
#define READ VERDICTS

/* Looks for the exact port first, then for any port. */
static __always_inline int known(void *map, const struct address *addr, __be16 port, __u8 proto)
{
	struct endpoint key = { .addr = *addr, .port = port, .proto = proto };

	if (bpf_map_lookup_elem(map, &key))
		return 1;
	key.port = 0;
	return bpf_map_lookup_elem(map, &key) != NULL;
}

/* Whether a rule of a firewall mark may mean the packet. */
static __always_inline int marked(const struct flow *f, __u16 dport)
{
	struct prefix key = { .bits = 128, .addr = f->dst };
	const struct prefix_ranges *found = bpf_map_lookup_elem(&prefixes, &key);

	if (!found)
		return 0;
#pragma unroll
	for (int i = 0; i < PREFIX_RANGES; i++) {
		const struct prefix_range *r = &found->range[i];

		if (dport >= r->ports.lo && dport <= r->ports.hi && (!r->proto || r->proto == f->proto))
			return 1;
	}
	return 0;
}

static __always_inline enum verdict judge_flow(const struct flow *f)
{
	const struct port_range *ports;
	__u16 dport = bpf_ntohs(f->dport);

	if (known(&services, &f->dst, f->dport, f->proto))
		return REDIRECT_SERVICE;
	ports = bpf_map_lookup_elem(&locals, &f->dst);
	if (ports && dport >= ports->lo && dport <= ports->hi)
		return REDIRECT_LOCAL;
	if (known(&nat_servers, &f->src, f->sport, f->proto))
		return bpf_map_lookup_elem(&own_addresses, &f->dst) ? PASS_OWN : REDIRECT_NAT;
	return marked(f, dport) ? REDIRECT_MARK : PASS_OTHER;
}

/* A fragment goes by its addresses alone. A worker finds out whether its datagram is weir's. */
static __always_inline enum verdict judge_fragment(const struct flow *f)
{
	struct prefix to = { .bits = 128, .addr = f->dst };

	if (bpf_map_lookup_elem(&service_addresses, &f->dst) || bpf_map_lookup_elem(&locals, &f->dst) ||
	    bpf_map_lookup_elem(&prefixes, &to))
		return REDIRECT_FRAGMENT;
	if (bpf_map_lookup_elem(&server_addresses, &f->src) && !bpf_map_lookup_elem(&own_addresses, &f->dst))
		return REDIRECT_FRAGMENT;
	return PASS_FRAGMENT;
}

/* f is what a quoted packet's answer would be: an ICMP error goes the way of the answers to what it is about. */
static __always_inline enum verdict judge_quoted(const struct flow *f, enum verdict answer)
{
	if (answer >= REDIRECT_SERVICE)
		return REDIRECT_ICMP_ERROR;
	if (f->proto != IPPROTO_TCP && f->proto != IPPROTO_SCTP && bpf_map_lookup_elem(&tunnels, &f->src))
		return REDIRECT_ICMP_ERROR;
	return PASS_ICMP_ERROR;
}

/* The protocols whose header begins with a source and a destination port. */
static __always_inline int has_ports(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP;
}

/* The length of the whole header, of SCTP with that of the first chunk: RFC 9293 section 3.1, RFC 768, RFC 9260 section 3. */
static __always_inline __u32 header_length(__u8 proto)
{
	return proto == IPPROTO_TCP ? 20 : proto == IPPROTO_SCTP ? 16 : 8;
}

/*
 * AH and ESP go where the ISAKMP exchange between the same addresses goes, from UDP port 500 to 500: net/netfilter/ipvs/ip_vs_proto_ah_esp.c.
 * False: it is neither.
 */
static __always_inline int follows_isakmp(struct flow *f)
{
	if (f->proto != IPPROTO_AH && f->proto != IPPROTO_ESP)
		return 0;
	f->proto = IPPROTO_UDP;
	f->sport = f->dport = bpf_htons(500);
	return 1;
}

/* length is what the IP header leaves for layer 4, and is known to lie inside the frame. */
static __always_inline enum verdict read_l4(struct flow *f, const void *l4, const void *end, __u32 length)
{
	const __be16 *ports = l4;

	if (follows_isakmp(f))
		return READ;
	if (!has_ports(f->proto))
		return PASS_OTHER;
	/* All of it must be there, not just the ports. */
	if (length < header_length(f->proto))
		return PASS_MALFORMED;
	if ((const void *)(ports + 2) > end)
		return PASS_MALFORMED;
	f->sport = ports[0];
	f->dport = ports[1];
	return READ;
}

static __always_inline enum verdict read_fragment(struct flow *f)
{
	if (follows_isakmp(f)) /* each fragment, as well as the first */
		return READ;
	if (!has_ports(f->proto))
		return PASS_FRAGMENT;
	f->what = FRAGMENT;
	return READ;
}

/* Layer 4 of a quoted packet: its ports, the other way about. */
static __always_inline enum verdict read_quoted_l4(struct flow *f, const void *l4, const void *end)
{
	const __be16 *ports = l4;

	if ((const void *)(ports + 4) > end) /* RFC 792: 8 bytes at least */
		return PASS_ICMP_ERROR;
	f->what = QUOTED;
	if (follows_isakmp(f))
		return READ;
	switch (f->proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		f->sport = ports[1];
		f->dport = ports[0];
		break;
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
	case IPPROTO_GRE:
		break;
	default:
		return PASS_ICMP_ERROR;
	}
	return READ;
}

static __always_inline void map_ipv4(struct address *a, __be32 v4)
{
	a->byte[10] = a->byte[11] = 0xff;
	__builtin_memcpy(&a->byte[12], &v4, sizeof(v4));
}

#define ICMP_HEADER 8

/* Destination unreachable, time exceeded, parameter problem: RFC 792. Source quench is dead (RFC 6633), a redirect is the host's. */
static __always_inline enum verdict read_icmp(struct flow *f, const __u8 *icmp, const void *end, __u32 length)
{
	const struct iphdr *quoted = (const void *)icmp + ICMP_HEADER;
	__u32 header;

	if (length < ICMP_HEADER || (const void *)quoted > end)
		return PASS_MALFORMED;
	if (*icmp != 3 && *icmp != 11 && *icmp != 12)
		return PASS_OTHER;
	if ((const void *)(quoted + 1) > end)
		return PASS_ICMP_ERROR;
	header = quoted->ihl * 4;
	if (quoted->version != 4 || header < sizeof(*quoted) || quoted->frag_off & bpf_htons(0x1fff))
		return PASS_ICMP_ERROR;
	f->proto = quoted->protocol;
	map_ipv4(&f->src, quoted->daddr);
	map_ipv4(&f->dst, quoted->saddr);
	return read_quoted_l4(f, (const void *)quoted + header, end);
}

/* The extension headers that a packet may have and still be weir's. As many as a worker walks over: dataplane/packet, maxExtensions. */
#define MAX_EXTENSIONS 5

static __always_inline int is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_DSTOPTS || proto == IPPROTO_FRAGMENT;
}

/* Errors: RFC 4443 section 2.1. Those of other numbers are for hosts to come. */
static __always_inline enum verdict read_icmp6(struct flow *f, const __u8 *icmp, const void *end, __u32 length)
{
	const struct ipv6hdr *quoted = (const void *)icmp + ICMP_HEADER;
	__u32 at = 0;

	if (length < 4 || (const void *)(icmp + 1) > end)
		return PASS_MALFORMED;
	if (*icmp < 1 || *icmp > 4)
		return PASS_OTHER;
	if ((const void *)(quoted + 1) > end)
		return PASS_ICMP_ERROR;
	f->proto = quoted->nexthdr;
	/* As in read_ipv6, but that the end of what is quoted need not be there. */
#pragma unroll
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		const __u8 *h = (const void *)(quoted + 1) + at;

		if (!is_extension(f->proto))
			break;
		if ((const void *)(h + 8) > end)
			return PASS_ICMP_ERROR;
		if (f->proto == IPPROTO_FRAGMENT && (h[2] || h[3] & 0xf8)) /* a later one */
			return PASS_ICMP_ERROR;
		at += f->proto == IPPROTO_FRAGMENT ? 8 : 8 + 8 * h[1];
		f->proto = h[0];
	}
	__builtin_memcpy(f->src.byte, &quoted->daddr, sizeof(f->src));
	__builtin_memcpy(f->dst.byte, &quoted->saddr, sizeof(f->dst));
	return read_quoted_l4(f, (const void *)(quoted + 1) + at, end);
}

static __always_inline enum verdict read_ipv4(struct flow *f, const struct iphdr *ip, const void *end)
{
	__u32 header, total;

	if ((const void *)(ip + 1) > end)
		return PASS_MALFORMED;
	header = ip->ihl * 4;
	total = length_of(ip->tot_len);
	/* The frame may be longer than the packet (Ethernet pads to 60 bytes), never shorter. */
	if (ip->version != 4 || header < sizeof(*ip) || total < header || (const void *)ip + total > end)
		return PASS_MALFORMED;
	f->proto = ip->protocol;
	if (ip->protocol == IPPROTO_ICMP && !(ip->frag_off & bpf_htons(0x3fff)))
		return read_icmp(f, (const void *)ip + header, end, total - header);
	map_ipv4(&f->src, ip->saddr);
	map_ipv4(&f->dst, ip->daddr);
	if (ip->frag_off & bpf_htons(0x3fff)) /* more fragments, or an offset: RFC 791 section 3.1 */
		return read_fragment(f);
	return read_l4(f, (const void *)ip + header, end, total - header);
}

static __always_inline enum verdict read_ipv6(struct flow *f, const struct ipv6hdr *ip, const void *end)
{
	__u32 length, at = 0;

	if ((const void *)(ip + 1) > end)
		return PASS_MALFORMED;
	length = length_of(ip->payload_len);
	if (ip->version != 6 || (const void *)(ip + 1) + length > end)
		return PASS_MALFORMED;

	f->proto = ip->nexthdr;
	__builtin_memcpy(f->src.byte, &ip->saddr, sizeof(f->src));
	__builtin_memcpy(f->dst.byte, &ip->daddr, sizeof(f->dst));
	/* Each is the next one's type and its own length in eight bytes beyond the first eight: RFC 8200 section 4. */
#pragma unroll
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		const __u8 *h = (const void *)(ip + 1) + at;

		if (!is_extension(f->proto))
			break;
		if (at + 8 > length || (const void *)(h + 8) > end)
			return PASS_MALFORMED;
		if (f->proto == IPPROTO_FRAGMENT) {
			f->proto = h[0];
			if (h[2] || h[3] & 0xf9) /* an offset, or more: else it is a whole packet, RFC 6946 */
				return read_fragment(f);
			at += 8;
			continue;
		}
		/* Options for every hop stand first, and a route with segments left goes on from here: the kernel's. */
		if ((f->proto == IPPROTO_HOPOPTS && i) || (f->proto == IPPROTO_ROUTING && h[3]))
			return PASS_EXTENSION;
		f->proto = h[0];
		at += 8 + 8 * h[1];
	}
	if (at > length)
		return PASS_MALFORMED;
	if (is_extension(f->proto) || f->proto == IPPROTO_MH)
		return PASS_EXTENSION;
	if (f->proto == IPPROTO_ICMPV6)
		return read_icmp6(f, (const void *)(ip + 1) + at, end, length - at);
	return read_l4(f, (const void *)(ip + 1) + at, end, length - at);
}

/* See struct reentry. */
static __always_inline enum verdict judge_reentry(struct xdp_md *ctx)
{
	const void *end = (void *)(long)ctx->data_end;
	const struct reentry *mark = (void *)(long)ctx->data;

	if ((const void *)(mark + 1) > end || mark->secret != reentry_secret)
		return PASS_OTHER;
	if ((const void *)(mark + 1) == end)
		bpf_tail_call(ctx, &injector, 0); /* does not come back */
	if (bpf_xdp_adjust_head(ctx, sizeof(*mark)))
		return PASS_OTHER;
	return PASS_REENTRY;
}

static __always_inline int is_vlan(__be16 ethertype)
{
	return ethertype == bpf_htons(ETH_P_8021Q) || ethertype == bpf_htons(ETH_P_8021AD);
}

static __always_inline enum verdict judge(struct xdp_md *ctx)
{
	const void *end = (void *)(long)ctx->data_end;
	const struct ethhdr *eth = (void *)(long)ctx->data;
	const __be16 *ethertype = &eth->h_proto;
	enum verdict verdict;
	struct flow f = {};

	if ((const void *)(eth + 1) > end)
		return PASS_MALFORMED;
	if (*ethertype == bpf_htons(ETH_P_REENTRY))
		return judge_reentry(ctx);
	if (!own_or_accepted(eth))
		return PASS_FOREIGN_MAC;

	/* A tag is its TPID, where the EtherType would be, and two bytes of tag: IEEE 802.1Q clause 9. */
#pragma unroll
	for (int tags = 0; tags < 2; tags++) {
		if (!is_vlan(*ethertype))
			break;
		ethertype += 2;
		if ((const void *)(ethertype + 1) > end)
			return PASS_MALFORMED;
	}

	if (*ethertype == bpf_htons(ETH_P_IP))
		verdict = read_ipv4(&f, (const void *)(ethertype + 1), end);
	else if (*ethertype == bpf_htons(ETH_P_IPV6))
		verdict = read_ipv6(&f, (const void *)(ethertype + 1), end);
	else
		return PASS_OTHER;
	if (verdict != READ)
		return verdict;
	if (f.what == FRAGMENT)
		return judge_fragment(&f);
	verdict = judge_flow(&f);
	return f.what == QUOTED ? judge_quoted(&f, verdict) : verdict;
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	enum verdict verdict = judge(ctx);
	int action = XDP_PASS;
	__u64 *count;

	if (verdict >= REDIRECT_SERVICE) {
		action = bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
		if (action != XDP_REDIRECT)
			verdict = PASS_NO_SOCKET;
	}
	count = bpf_map_lookup_elem(&counters, &verdict);
	if (count)
		(*count)++;
	return action;
}
