// Macros for guests that give the general registers values and look at them afterwards. `at` is where they stand, eight bytes
// each in the order of their numbers; rsp (number 4) is stored only.
        .macro  PUSH_KEPT
        .irp    register,rbx,rbp,r12,r13,r14,r15
        push    %\register
        .endr
        .endm
        .macro  POP_KEPT
        .irp    register,r15,r14,r13,r12,rbp,rbx
        pop     %\register
        .endr
        .endm
        .macro  LOAD_GENERAL at
        mov     \at+0(%rip), %rax
        mov     \at+8(%rip), %rcx
        mov     \at+16(%rip), %rdx
        mov     \at+24(%rip), %rbx
        mov     \at+40(%rip), %rbp
        mov     \at+48(%rip), %rsi
        mov     \at+56(%rip), %rdi
        .irp    n,8,9,10,11,12,13,14,15
        mov     \at+8*\n(%rip), %r\n
        .endr
        .endm
        .macro  STORE_GENERAL at
        mov     %rax, \at+0(%rip)
        mov     %rcx, \at+8(%rip)
        mov     %rdx, \at+16(%rip)
        mov     %rbx, \at+24(%rip)
        mov     %rsp, \at+32(%rip)
        mov     %rbp, \at+40(%rip)
        mov     %rsi, \at+48(%rip)
        mov     %rdi, \at+56(%rip)
        .irp    n,8,9,10,11,12,13,14,15
        mov     %r\n, \at+8*\n(%rip)
        .endr
        .endm
