/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* A guest that is all memory: says on QEMU's debug console whether its RAM is zero ("Z") or not ("D"), writes MARK all over
 * it, says so ("F"), and halts. It leaves alone the first 2 MiB and some of the last 2, where it itself and the
 * firmware are. */

        .set magic, 0x1badb002 /* multiboot */
        .set flags, 2          /* with the size of memory */
        .set from, 0x200000

        .code32
        .text
        .align 4
        .long magic, flags, -(magic + flags)

        .globl _start
_start:
        movl 8(%ebx), %edx /* KiB above 1 MiB */
        subl $2048, %edx
        shll $8, %edx /* words */
        movl %edx, %ecx
        movl $from, %edi
        xorl %eax, %eax
        repe scasl
        movb $'Z', %al
        je 1f
        movb $'D', %al
1:      outb %al, $0xe9
        movl %edx, %ecx
        movl $from, %edi
        movl $MARK, %eax
        rep stosl
        movb $'F', %al
        outb %al, $0xe9
2:      hlt
        jmp 2b
