#include "textflag.h"

// func warm(buckets []bucket, mask uint64, hashes []uint64)
TEXT ·warm(SB), NOSPLIT, $0-56
	MOVD buckets_base+0(FP), R0
	MOVD mask+24(FP), R1
	MOVD hashes_base+32(FP), R2
	MOVD hashes_len+40(FP), R3

next:
	MOVD.P 8(R2), R4
	AND    R4>>32, R1, R4
	ADD    R4<<6, R0, R4 // a bucket is 64 bytes
	PRFM   (R4), PLDL1KEEP
	SUBS   $1, R3
	BNE    next
	RET

// SLOT takes the lower half of a slot into R10 if the upper one is the tag in R8.
#define SLOT(at) \
	MOVWU (at*8+4)(R9), R11 \
	MOVWU (at*8)(R9), R12   \
	CMPW  R11, R8           \
	CSEL  EQ, R12, R10, R10

// func peek(buckets []bucket, mask uint64, entries []entry, rests []rest, hashes []uint64, places []Place)
//
// All seven slots are looked at, the first one last, which counts if several match: stopping at the right one would cost a wrong guess of the CPU's for most packets. What is read may
// be in the middle of a change: it is a guess, which Find proves.
TEXT ·peek(SB), NOSPLIT, $0-128
	MOVD buckets_base+0(FP), R0
	MOVD mask+24(FP), R1
	MOVD entries_base+32(FP), R2
	MOVD rests_base+56(FP), R6
	MOVD hashes_base+80(FP), R3
	MOVD hashes_len+88(FP), R4
	MOVD places_base+104(FP), R5

next:
	MOVD.P  8(R3), R8
	AND     R8>>32, R1, R9
	ADD     R9<<6, R0, R9
	MOVD    ZR, R10
	SLOT(6)
	SLOT(5)
	SLOT(4)
	SLOT(3)
	SLOT(2)
	SLOT(1)
	SLOT(0)
	MOVW.P  R10, 4(R5)
	AND     $0x7fffffff, R10, R11 // without the reverse bit
	ADD     R11<<5, R6, R12       // its rest is 32 bytes
	ADD     R11<<6, R2, R11       // an entry 64
	PRFM    (R11), PLDL1KEEP
	TSTW    $0x80000000, R10
	CSEL    NE, R12, R11, R12 // the rest for a server's packet, else the same once more
	PRFM    (R12), PLDL1KEEP
	SUBS    $1, R4
	BNE     next
	RET
