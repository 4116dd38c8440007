// Loads every register, then runs a site between two breakpoints; the registers behind it are stored. The breakpoints are
// for `stepper.c`, which steps from the first towards the second.
#include "signal_stepped.h"
#include "general_registers.h"

        .hidden loaded
        .hidden stored
        .bss
        .balign 8
kept_rsp: .skip 8
        .text
// A site in a row of instructions that the handler knows the boundaries of.
        .macro  STEPPED name, before:vararg
        .balign 64, 0xcc
        .globl  \name, \name\()_site, \name\()_end
        .hidden \name, \name\()_site, \name\()_end
        .type   \name, @function
\name:  .cfi_startproc
        PUSH_KEPT
        mov     %rsp, kept_rsp(%rip)
        .irp    n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movups  loaded+AT_XMM+16*\n(%rip), %xmm\n
        .endr
        pushq   loaded+AT_FLAGS(%rip)
        popfq
        LOAD_GENERAL loaded
        call    mark_first
        \before
\name\()_site:
        syscall
\name\()_end:
        call    mark_second
        STORE_GENERAL stored
        mov     kept_rsp(%rip), %rsp
        pushfq
        popq    stored+AT_FLAGS(%rip)
        pushq   $0x202
        popfq
        .irp    n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movups  %xmm\n, stored+AT_XMM+16*\n(%rip)
        .endr
        POP_KEPT
        ret
        .cfi_endproc
        .size   \name, . - \name
        .endm

        .globl  mark_first, mark_second
        .hidden mark_first, mark_second
        .type   mark_first, @function
        .type   mark_second, @function
mark_first:
        int3
        ret
mark_second:
        int3
        ret

        STEPPED stepped_mov, mov loaded(%rip), %eax
        STEPPED stepped_imm, mov $110, %eax
        STEPPED stepped_copy, mov %rbx, %rax
        STEPPED stepped_short, mov %ebx, %eax
        .skip   16, 0xcc
        STEPPED stepped_padded, nop
        .skip   16, 0xcc
        .section .note.GNU-stack,"",@progbits
