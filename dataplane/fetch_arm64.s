#include "go_asm.h"
#include "textflag.h"

// func fetch(frames []Frame)
TEXT ·fetch(SB), NOSPLIT, $0-24
	MOVD frames_base+0(FP), R0
	MOVD frames_len+8(FP), R1
	CBZ  R1, done

next:
	MOVD Frame_Buf(R0), R2 // its pointer
	MOVD Frame_Off(R0), R3
	ADD  R3, R2
	PRFM (R2), PLDL1KEEP
	ADD  $Frame__size, R0
	SUBS $1, R1
	BNE  next

done:
	RET
