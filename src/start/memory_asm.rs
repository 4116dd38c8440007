//! The memory functions that compiled Rust calls by their C names. Zone: call.
//!
//! Assembly, because compiled Rust would be compiled into a call of itself. String instructions where they are close to
//! the best (long and upwards, with CPUID ERMS), general registers else; no vector register is touched.

use core::arch::naked_asm;

/// Copies up to 32 bytes and returns: all loads come before all stores, so an overlap does no harm. Longer ones fall
/// through to what follows. Most copies are this short, and `rep movsb` takes as long to begin as this to end.
macro_rules! copy_short {
    () => {
        concat!(
            "mov rax, rdi\n",
            "cmp rdx, 16\n",
            "ja 4f\n",
            "cmp edx, 8\n",
            "jae 3f\n",
            "cmp edx, 4\n",
            "jae 2f\n",
            "test edx, edx\n",
            "jz 1f\n",
            // 1 to 3: first, middle and last byte, which may be the same.
            "movzx ecx, byte ptr [rsi]\n",
            "movzx r8d, byte ptr [rsi + rdx - 1]\n",
            "mov r10, rdx\n",
            "shr r10, 1\n",
            "movzx r9d, byte ptr [rsi + r10]\n",
            "mov [rdi], cl\n",
            "mov [rdi + r10], r9b\n",
            "mov [rdi + rdx - 1], r8b\n",
            "1:\n",
            "ret\n",
            "2:\n", // 4 to 7, from both ends
            "mov ecx, [rsi]\n",
            "mov r8d, [rsi + rdx - 4]\n",
            "mov [rdi], ecx\n",
            "mov [rdi + rdx - 4], r8d\n",
            "ret\n",
            "3:\n", // 8 to 16
            "mov rcx, [rsi]\n",
            "mov r8, [rsi + rdx - 8]\n",
            "mov [rdi], rcx\n",
            "mov [rdi + rdx - 8], r8\n",
            "ret\n",
            "4:\n",
            "cmp rdx, 32\n",
            "ja 5f\n",
            "mov rcx, [rsi]\n",
            "mov r8, [rsi + 8]\n",
            "mov r9, [rsi + rdx - 16]\n",
            "mov r10, [rsi + rdx - 8]\n",
            "mov [rdi], rcx\n",
            "mov [rdi + 8], r8\n",
            "mov [rdi + rdx - 16], r9\n",
            "mov [rdi + rdx - 8], r10\n",
            "ret\n",
            "5:\n",
        )
    };
}

/// `memcpy`: copies `rdx` bytes from `rsi` to `rdi`; the two do not overlap, or `rdi` lies below.
///
/// # Safety
///
/// The C contract of `memcpy`.
#[unsafe(naked)]
pub unsafe extern "C" fn copy_forward(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!(copy_short!(), "mov rcx, rdx", "rep movsb", "ret")
}

/// `memmove`: copies `rdx` bytes from `rsi` to `rdi`, which may overlap.
///
/// # Safety
///
/// The C contract of `memmove`.
#[unsafe(naked)]
pub unsafe extern "C" fn copy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!(
        copy_short!(),
        "mov r8, rdi",
        "sub r8, rsi",
        "cmp r8, rdx", // unsigned: true where `to` lies inside [from, from + len)
        "jb 6f",
        "mov rcx, rdx",
        "rep movsb",
        "ret",
        "6:", // from the end down, by words, since `rep movsb` goes slowly that way; the last steps may overlap
        "mov r8, [rsi]", // what is left below a whole word, read before it can be overwritten
        "7:",
        "mov rcx, [rsi + rdx - 8]",
        "mov [rdi + rdx - 8], rcx",
        "sub rdx, 8",
        "cmp rdx, 8",
        "ja 7b",
        "mov [rdi], r8",
        "ret",
    )
}

/// `memset`: fills `rdx` bytes at `rdi` with `sil`.
///
/// # Safety
///
/// The C contract of `memset`.
#[unsafe(naked)]
pub unsafe extern "C" fn fill(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    naked_asm!("mov r8, rdi", "mov eax, esi", "mov rcx, rdx", "rep stosb", "mov rax, r8", "ret")
}

/// `memcmp` and `bcmp`: negative, 0 or positive as the first byte that differs.
///
/// # Safety
///
/// The C contract of `memcmp`.
#[unsafe(naked)]
pub unsafe extern "C" fn compare(left: *const u8, right: *const u8, len: usize) -> i32 {
    naked_asm!(
        "cmp rdx, 8",
        "jb 3f",
        "2:", // word by word, which serves the short fixed lengths of compiled comparisons
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "cmp rax, rcx",
        "jne 5f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "cmp rdx, 8",
        "jae 2b",
        "3:",
        "xor eax, eax",
        "test edx, edx",
        "jz 6f",
        "4:",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jnz 6f",
        "inc rdi",
        "inc rsi",
        "dec edx",
        "jnz 4b",
        "ret",
        "5:", // the first byte decides: it is to be the highest
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "6:",
        "ret",
    )
}

/// `strlen`: how many bytes stand before the first zero.
///
/// # Safety
///
/// The C contract of `strlen`.
#[unsafe(naked)]
pub unsafe extern "C" fn length(text: *const core::ffi::c_char) -> usize {
    naked_asm!("mov rax, -1", "2:", "inc rax", "cmp byte ptr [rdi + rax], 0", "jne 2b", "ret")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn copies_as_the_standard_library_does(mut bytes in proptest::collection::vec(any::<u8>(), 1..200),
            from in 0usize..200, to in 0usize..200, len in 0usize..200) {
            let from = from % bytes.len();
            let to = to % bytes.len();
            let len = len.min(bytes.len() - from).min(bytes.len() - to);
            let mut expected = bytes.clone();
            expected.copy_within(from..from + len, to);
            let base = bytes.as_mut_ptr();
            // SAFETY: both ranges lie inside `bytes`, as computed above.
            unsafe { copy(base.add(to), base.add(from), len) };
            prop_assert_eq!(bytes, expected);
        }

        #[test]
        fn compares_as_the_standard_library_does(left in proptest::collection::vec(any::<u8>(), 0..40),
            changes in proptest::collection::vec((0usize..40, any::<u8>()), 0..3)) {
            let mut right = left.clone();
            for (at, byte) in changes {
                right.get_mut(at).into_iter().for_each(|to| *to = byte);
            }
            let len = left.len();
            // SAFETY: both slices hold at least `len` bytes.
            let order = unsafe { compare(left.as_ptr(), right.as_ptr(), len) };
            prop_assert_eq!(order.cmp(&0), left[..len].cmp(&right[..len]));
        }

        #[test]
        fn measures_strings(text in "[a-z]{0,40}") {
            let text = std::ffi::CString::new(text).unwrap();
            // SAFETY: a C string ends with a zero.
            prop_assert_eq!(unsafe { length(text.as_ptr()) }, text.as_bytes().len());
        }

        #[test]
        fn fills_its_range_and_no_more(len in 0usize..64, byte in any::<u8>()) {
            let mut bytes = [0x5a_u8; 80];
            // SAFETY: 8 + len is below 80.
            unsafe { fill(bytes.as_mut_ptr().add(8), i32::from(byte), len) };
            prop_assert!(bytes[8..8 + len].iter().all(|&b| b == byte));
            prop_assert!(bytes[..8].iter().chain(&bytes[8 + len..]).all(|&b| b == 0x5a));
        }
    }
}
