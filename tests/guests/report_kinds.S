# One site that only a trap serves, one call that nothing leads to and that reads as code, and a table with the bytes of one.
# The last two stand behind marks that a search of the file finds.
#@ build: gcc -nostdlib -static report_kinds.S -o $OUT
.text
.globl _start
.type _start, @function
_start:
    mov $39, %eax               # getpid
    .byte 0x66, 0x0f, 0x05      # an operand size prefix leaves nothing but a trap
    mov $1, %eax                # write
    mov $1, %edi
    lea line(%rip), %rsi
    mov $3, %edx
    syscall
    mov $231, %eax              # exit_group
    xor %edi, %edi
    syscall
.size _start, . - _start
    .ascii "mark of the call"
    mov %rdi, %rax
    syscall
    ret
    .ascii "mark of the data"
    .byte 0x06, 0x06, 0x0f, 0x05, 0x06, 0x06
.type last, @function
last:
    ret
.size last, . - last
line: .ascii "ok\n"
