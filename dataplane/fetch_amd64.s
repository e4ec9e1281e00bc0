#include "go_asm.h"
#include "textflag.h"

// func fetch(frames []Frame)
TEXT ·fetch(SB), NOSPLIT, $0-24
	MOVQ frames_base+0(FP), SI
	MOVQ frames_len+8(FP), CX
	TESTQ CX, CX
	JZ   done

next:
	MOVQ Frame_Buf(SI), AX // its pointer
	MOVQ Frame_Off(SI), BX
	PREFETCHT0 (AX)(BX*1)
	ADDQ $Frame__size, SI
	DECQ CX
	JNZ  next

done:
	RET
