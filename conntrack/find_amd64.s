#include "textflag.h"

// func warm(buckets []bucket, mask uint64, hashes []uint64)
TEXT ·warm(SB), NOSPLIT, $0-56
	MOVQ buckets_base+0(FP), DI
	MOVQ mask+24(FP), SI
	MOVQ hashes_base+32(FP), R8
	MOVQ hashes_len+40(FP), CX

next:
	MOVQ (R8), AX
	SHRQ $32, AX
	ANDQ SI, AX
	SHLQ $6, AX // a bucket is 64 bytes
	PREFETCHT0 (DI)(AX*1)
	ADDQ $8, R8
	DECQ CX
	JNZ next
	RET

// func peek(buckets []bucket, mask uint64, entries []entry, rests []rest, hashes []uint64, places []Place)
//
// All sixteen halves of the bucket's words are compared with the tag at once. The upper halves of the seven slots count: the odd bits up to
// 13. What is read may be in the middle of a change: it is a guess, which Find proves.
TEXT ·peek(SB), NOSPLIT, $0-128
	MOVQ buckets_base+0(FP), DI
	MOVQ mask+24(FP), SI
	MOVQ entries_base+32(FP), R10
	MOVQ rests_base+56(FP), R11
	MOVQ hashes_base+80(FP), R8
	MOVQ hashes_len+88(FP), CX
	MOVQ places_base+104(FP), R9

next:
	MOVQ   (R8), AX
	MOVQ   AX, X0
	PSHUFL $0, X0, X0
	SHRQ   $32, AX
	ANDQ   SI, AX
	SHLQ   $6, AX
	ADDQ   DI, AX
	MOVOU  (AX), X1
	MOVOU  16(AX), X2
	MOVOU  32(AX), X3
	MOVOU  48(AX), X4
	PCMPEQL X0, X1
	PCMPEQL X0, X2
	PCMPEQL X0, X3
	PCMPEQL X0, X4
	PACKSSLW X2, X1
	PACKSSLW X4, X3
	PACKSSWB X3, X1
	PMOVMSKB X1, BX
	XORL   DX, DX
	ANDL   $0x2aaa, BX
	JZ     found
	BSFL   BX, BX
	MOVL   -4(AX)(BX*4), DX // the lower half of that slot

found:
	MOVL DX, (R9)
	MOVLQSX DX, R12
	ANDL $0x7fffffff, DX // without the reverse bit
	SARQ $63, R12        // all ones for a server's packet, else zero
	MOVQ DX, R13
	SHLQ $6, DX // an entry is 64 bytes
	SHLQ $5, R13 // and its rest 32
	ADDQ R10, DX
	ADDQ R11, R13
	PREFETCHT0 (DX)
	XORQ DX, R13 // the rest, or the same once more: a branch would be guessed wrong half the time
	ANDQ R12, R13
	XORQ DX, R13
	PREFETCHT0 (R13)
	ADDQ $8, R8
	ADDQ $4, R9
	DECQ CX
	JNZ  next
	RET
