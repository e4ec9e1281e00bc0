/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What steer.c and inject.c must agree on. */
#pragma once

#include <linux/types.h>

/*
 * The mark of the host path, in front of a frame or alone.
 *
 * Alone it is a placeholder that BPF_PROG_RUN hands to steer: steer calls inject, which replaces it by a packet.
 *
 * In front of a frame it is on its way to an interface in generic mode, where every frame meets steer once more, because generic
 * XDP runs inside the stack (net/core/dev.c, __netif_receive_skb_core): steer takes it off and lets the frame pass.
 */
struct reentry {
	__u8 dst[6], src[6]; /* zero: no device looks at them before steer does */
	__be16 ethertype;
	__u64 secret; /* random per process: nobody on the wire can steer past weir with it */
} __attribute__((packed));

#define ETH_P_REENTRY 0x88b5 /* IEEE 802 Local Experimental Ethertype 1 */
