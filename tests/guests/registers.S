// Loads every register, jumps to a system call site, stores every register. No register is left to hold a pointer,
// so both states stand at fixed places and the site is reached by a jump through memory.
#include "registers.h"
#include "general_registers.h"

        .hidden before
        .hidden after
        .hidden vector_bytes
        .hidden site
        .bss
        .balign 8
harness_rsp: .skip 8
harness_mxcsr: .skip 4
        .text
        .globl load_and_call
        .hidden capture
        .globl capture
load_and_call:
        PUSH_KEPT
        mov     %rsp, harness_rsp(%rip)
        stmxcsr harness_mxcsr(%rip)
        fxrstor64 before+AT_X87(%rip)
        ldmxcsr before+AT_MXCSR(%rip)
        cmpq    $32, vector_bytes(%rip)
        ja      3f
        je      2f
        .irp    n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movaps  before+AT_VECTORS+64*\n(%rip), %xmm\n
        .endr
        jmp     4f
2:      .irp    n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovaps before+AT_VECTORS+64*\n(%rip), %ymm\n
        .endr
        jmp     4f
3:      .irp    n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vmovaps before+AT_VECTORS+64*\n(%rip), %zmm\n
        .endr
        .irp    n,0,1,2,3,4,5,6,7
        kmovq   before+AT_MASKS+8*\n(%rip), %k\n
        .endr
4:      pushq   before+AT_FLAGS(%rip)
        popfq
        LOAD_GENERAL before
        jmp     *site(%rip)

capture:
        STORE_GENERAL after
        mov     harness_rsp(%rip), %rsp
        pushfq
        popq    after+AT_FLAGS(%rip)
        pushq   $0x202
        popfq
        stmxcsr after+AT_MXCSR(%rip)
        cmpq    $32, vector_bytes(%rip)
        ja      3f
        je      2f
        .irp    n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movaps  %xmm\n, after+AT_VECTORS+64*\n(%rip)
        .endr
        jmp     4f
2:      .irp    n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovaps %ymm\n, after+AT_VECTORS+64*\n(%rip)
        .endr
        vzeroupper
        jmp     4f
3:      .irp    n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vmovaps %zmm\n, after+AT_VECTORS+64*\n(%rip)
        .endr
        .irp    n,0,1,2,3,4,5,6,7
        kmovq   %k\n, after+AT_MASKS+8*\n(%rip)
        .endr
        vzeroupper
4:      fxsave64 after+AT_X87(%rip)
        fninit
        ldmxcsr harness_mxcsr(%rip)
        mov     harness_rsp(%rip), %rcx
        mov     %rcx, before+32(%rip)
        POP_KEPT
        ret

// Sites that differ in what stands before and after the system call. `\name\()_end` is the byte after it.
        .macro  SITE name
        .globl  \name, \name\()_end
        .hidden \name, \name\()_end
        .type   \name, @function
        .balign 64, 0xcc
        .endm
        .macro  CALL name
        syscall
\name\()_end:
        jmp     capture
        .endm

        SITE    site_bare               // the site is a branch target, nothing to evict
site_bare:
        CALL    site_bare
        SITE    site_mov_imm            // five bytes: the common predecessor
site_mov_imm:
        mov     $39, %eax
        CALL    site_mov_imm
        SITE    site_mov_imm_wide       // seven bytes
site_mov_imm_wide:
        movq    $39, %rax
        CALL    site_mov_imm_wide
        SITE    site_mov_short          // two bytes: mov eax, ebx
site_mov_short:
        mov     %ebx, %eax
        CALL    site_mov_short
        SITE    site_mov_three          // three bytes
site_mov_three:
        mov     %rbx, %rax
        CALL    site_mov_three
        SITE    site_lea_four           // four bytes
site_lea_four:
        .byte   0x48, 0x8d, 0x43, 0x00  // lea 0(%rbx), %rax
        CALL    site_lea_four
        SITE    site_load               // a load through rip, which moves only with its displacement changed
site_load:
        mov     before+24(%rip), %rax
        CALL    site_load
        SITE    site_flags              // the predecessor changes flags, the system call must show them in r11
site_flags:
        or      $0, %eax
        CALL    site_flags
        SITE    site_padded             // dead padding on both sides
        .skip   16, 0x90
site_padded:
        syscall
site_padded_end:
        .byte   0x0f, 0x1f, 0x40, 0x00  // nopl 0(%rax)
        .byte   0x66, 0x90
        jmp     capture
        .skip   16, 0xcc
        .section .note.GNU-stack,"",@progbits
