//! The macro that makes a crate the executable. Zone: bare until the relocations are applied, then load.

/// Makes the calling crate a freestanding executable whose life starts in `$main`.
///
/// `$main` is a `fn(&loader::executable::Process) -> !` and runs on the loader's own stack, after self-relocation.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[global_allocator]
        static HEAP: $crate::executable::Bump = $crate::executable::Bump;

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::executable::last_words(info)
        }

        /// The first instruction of the process.
        ///
        /// # Safety
        ///
        /// Only the kernel jumps here.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn _start() -> ! {
            core::arch::naked_asm!("lea rsi, [rip + {main}]", "jmp {start}",
                main = sym relocated_main, start = sym $crate::executable::start)
        }

        extern "C" fn relocated_main(stack: *const u64) -> ! {
            $crate::executable::claim_pools();
            // SAFETY: `start` passes the stack pointer that the kernel gave the process, whose layout is the psABI's.
            let process = unsafe { $crate::executable::Process::from_stack(stack) };
            $main(&process)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
            core::arch::naked_asm!("jmp {}", sym $crate::executable::copy_forward)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
            core::arch::naked_asm!("jmp {}", sym $crate::executable::copy)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
            core::arch::naked_asm!("jmp {}", sym $crate::executable::fill)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
            core::arch::naked_asm!("jmp {}", sym $crate::executable::compare)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
            core::arch::naked_asm!("jmp {}", sym $crate::executable::compare)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn strlen(text: *const core::ffi::c_char) -> usize {
            core::arch::naked_asm!("jmp {}", sym $crate::executable::length)
        }

        /// Named by unwind tables of the prebuilt libraries; with `panic = "abort"` nothing calls it.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}

        /// Named by landing pads of unoptimised code; with `panic = "abort"` nothing calls it.
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            $crate::executable::unwound()
        }
    };
}
