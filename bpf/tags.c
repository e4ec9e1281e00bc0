//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * tags makes a host one behind a trunk, for tests on kernels without VLAN devices: what the host sends to a peer gets VLAN tags, and what
 * it gets from there must have the same tags, of priority 0, which are taken off. Only IPv4 is tagged: ARP and all else stays as it is.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define MAX_TAGS 2

/* Outermost first. */
volatile const __u32 tags;
volatile const __u16 ethertypes[MAX_TAGS]; /* host order */
volatile const __u16 ids[MAX_TAGS];
volatile const __u8 peer[ETH_ALEN];

__u64 pushed, popped, refused;

static __always_inline int is_peer(struct __sk_buff *skb, __u32 offset)
{
	__u8 mac[ETH_ALEN];

	if (bpf_skb_load_bytes(skb, offset, mac, sizeof(mac)))
		return 0;
	for (int i = 0; i < ETH_ALEN; i++)
		if (mac[i] != peer[i])
			return 0;
	return 1;
}

SEC("tc")
int push(struct __sk_buff *skb)
{
	if (skb->protocol != bpf_htons(ETH_P_IP) || !is_peer(skb, offsetof(struct ethhdr, h_dest)))
		return TC_ACT_UNSPEC;
#pragma unroll
	for (int i = MAX_TAGS - 1; i >= 0; i--)
		if (i < (int)tags && bpf_skb_vlan_push(skb, bpf_htons(ethertypes[i]), ids[i]))
			return TC_ACT_SHOT;
	__sync_fetch_and_add(&pushed, 1);
	return TC_ACT_UNSPEC;
}

/* The stack has taken the outermost tag out of the frame (net/core/dev.c, skb_vlan_untag); popping it brings the next one there. */
SEC("tc")
int pop(struct __sk_buff *skb)
{
	if ((!skb->vlan_present && skb->protocol != bpf_htons(ETH_P_IP)) || !is_peer(skb, offsetof(struct ethhdr, h_source)))
		return TC_ACT_UNSPEC;
#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		if (i >= (int)tags)
			break;
		if (!skb->vlan_present || skb->vlan_tci != ids[i] || skb->vlan_proto != bpf_htons(ethertypes[i]) || bpf_skb_vlan_pop(skb))
			goto refuse;
	}
	if (skb->vlan_present)
		goto refuse;
	__sync_fetch_and_add(&popped, 1);
	return TC_ACT_UNSPEC;
refuse:
	__sync_fetch_and_add(&refused, 1);
	return TC_ACT_SHOT;
}
