//! The memory functions that compiled Rust calls by their C names. Zone: call.
//!
//! String instructions, because compiled Rust would be compiled into a call of itself; with fast short `rep movsb`
//! (CPUID ERMS, FSRM) they are also close to the best, and no vector register is touched.

use core::arch::naked_asm;

/// `memcpy`: copies `rdx` bytes from `rsi` to `rdi`; the two do not overlap, or `rdi` lies below.
///
/// # Safety
///
/// The C contract of `memcpy`.
#[unsafe(naked)]
pub unsafe extern "C" fn copy_forward(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!("mov rax, rdi", "mov rcx, rdx", "rep movsb", "ret")
}

/// `memmove`: copies `rdx` bytes from `rsi` to `rdi`, which may overlap.
///
/// # Safety
///
/// The C contract of `memmove`.
#[unsafe(naked)]
pub unsafe extern "C" fn copy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdx",
        "mov r8, rdi",
        "sub r8, rsi",
        "cmp r8, rdx", // unsigned: true where `to` lies inside [from, from + len)
        "jb 2f",
        "rep movsb",
        "ret",
        "2:", // from the last byte down
        "lea rdi, [rdi + rdx - 1]",
        "lea rsi, [rsi + rdx - 1]",
        "std",
        "rep movsb",
        "cld", // the psABI wants DF clear at each call and return (3.2.1)
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

/// `memcmp` and `bcmp`: the difference of the first bytes that differ, 0 if none does.
///
/// # Safety
///
/// The C contract of `memcmp`.
#[unsafe(naked)]
pub unsafe extern "C" fn compare(left: *const u8, right: *const u8, len: usize) -> i32 {
    naked_asm!(
        "xor eax, eax",
        "xor ecx, ecx",
        "2:",
        "cmp rcx, rdx",
        "jae 3f",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r8d, byte ptr [rsi + rcx]",
        "inc rcx",
        "sub eax, r8d",
        "jz 2b",
        "3:",
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
        fn compares_as_the_standard_library_does(left in proptest::collection::vec(0u8..3, 0..9),
            right in proptest::collection::vec(0u8..3, 0..9)) {
            let len = left.len().min(right.len());
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
