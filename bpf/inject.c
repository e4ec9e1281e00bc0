//go:build ignore
/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * inject makes a packet of the placeholder that steer hands it (struct reentry), and lets it pass: the kernel then takes it as
 * received on the interface that the run names. The run is BPF_PROG_RUN of an interface's steer with
 * BPF_F_TEST_XDP_LIVE_FRAMES (net/bpf/test_run.c, bpf_test_run_xdp_live), one for many packets.
 *
 * Why through steer, and not a run of inject itself: a run of more than one frame enters its program into the kernel's XDP
 * dispatcher (bpf_prog_change_xdp), which patches kernel text and takes 0.4 ms, unless the program is there already because
 * it is attached somewhere. One frame per run costs 12 us, most of it the page pool that each run makes and destroys.
 */
#include <linux/bpf.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer.h"

char _license[] SEC("license") = "GPL";

#define SLOTS 64	/* packets per run; also what a page pool allocates at once (PP_ALLOC_CACHE_REFILL) */
#define MAX_PACKET 3560 /* bytes; with struct reentry LINEAR and HEADROOM leave 3562 on amd64 */

/*
 * What a page holds behind the headroom, with skb_shared_info and the run's own head taken off (net/bpf/test_run.c,
 * TEST_XDP_FRAME_SIZE), and what of the headroom the kernel does not use itself (net/core/filter.c, bpf_xdp_adjust_head: struct xdp_frame).
 * In Linux 6.1 the run's head holds a struct xdp_frame of its own, 40 bytes that later kernels spare.
 */
#define LINEAR 3368
#define HEADROOM 216

struct slot {
	__u32 length;
	__u8 packet[MAX_PACKET];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

volatile const __u64 reentry_secret;

/* Written before each run. */
__u32 next;	/* the slot to take */
__u32 reenter;	/* the interface is in generic mode: put struct reentry in front */

SEC("xdp")
int inject(struct xdp_md *ctx)
{
	struct reentry head = { .ethertype = bpf_htons(ETH_P_REENTRY), .secret = reentry_secret };
	__u32 front = reenter ? sizeof(head) : 0;
	const struct slot *slot;
	__u32 i, length;

	i = next++;
	slot = bpf_map_lookup_elem(&slots, &i);
	if (!slot)
		return XDP_DROP;
	length = slot->length;
	if (length < 14 || length > MAX_PACKET)
		return XDP_DROP;
	if (front + length > LINEAR && bpf_xdp_adjust_head(ctx, -HEADROOM))
		return XDP_DROP;
	if (bpf_xdp_adjust_tail(ctx, (int)(front + length) - (int)bpf_xdp_get_buff_len(ctx)))
		return XDP_DROP;
	if (front && bpf_xdp_store_bytes(ctx, 0, &head, sizeof(head)))
		return XDP_DROP;
	if (bpf_xdp_store_bytes(ctx, front, (void *)slot->packet, length))
		return XDP_DROP;
	return XDP_PASS;
}
