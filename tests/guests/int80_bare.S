// A program of a beginners' tutorial: no library, no unwind tables, only calls of the i386 table.
//@ build: gcc -static -nostdlib int80_bare.S -o $OUT
//@ build: gcc -static -nostdlib -s int80_bare.S -o $OUT
//@ status: 7
	.text
	.globl _start
_start:	mov $4, %eax
	mov $1, %ebx
	mov $text, %ecx
	mov $3, %edx
	int $0x80
	mov $1, %eax
	mov $7, %ebx
	int $0x80
	.section .rodata
text:	.ascii "ok\n"
	.section .note.GNU-stack, "", @progbits
