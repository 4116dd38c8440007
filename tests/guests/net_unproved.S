# A static program with a call that nothing leads to but a table that nobody reads: plausible, and not proved.
#@ build: gcc -nostdlib -static net_unproved.S -o $OUT
        .globl _start
_start:
        mov     target(%rip), %rax
        jmp     *%rax
        .byte   0x06                            # no instruction
there:
        mov     number(%rip), %eax              # write
        mov     $1, %edi
        lea     text(%rip), %rsi
        mov     $3, %edx
        syscall
        mov     $231, %eax                      # exit_group
        xor     %edi, %edi
        syscall
        .data
target: .quad   there
number: .long   1
text:   .ascii  "ok\n"
        .section .note.GNU-stack, "", @progbits
