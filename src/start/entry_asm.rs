//! The macro that makes a crate the executable. Zone: bare until the relocations are applied, then load.

/// Makes the calling crate a freestanding executable whose life starts in `$main`.
///
/// `$main` is a `fn(&loader::load::Process) -> !` and runs on the loader's own stack, after self-relocation.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[global_allocator]
        static HEAP: $crate::heap::Bump = $crate::heap::Bump;

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::start::panic::last_words(info)
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
                main = sym relocated_main, start = sym $crate::start::start_asm::start)
        }

        extern "C" fn relocated_main(stack: *const u64) -> ! {
            $crate::runtime::claim_pools();
            // SAFETY: `start` passes the stack pointer that the kernel gave the process, whose layout is the psABI's.
            let process = unsafe { $crate::load::Process::from_stack(stack) };
            $main(&process)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
            core::arch::naked_asm!("jmp {}", sym $crate::start::memory_asm::copy_forward)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
            core::arch::naked_asm!("jmp {}", sym $crate::start::memory_asm::copy)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
            core::arch::naked_asm!("jmp {}", sym $crate::start::memory_asm::fill)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
            core::arch::naked_asm!("jmp {}", sym $crate::start::memory_asm::compare)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
            core::arch::naked_asm!("jmp {}", sym $crate::start::memory_asm::compare)
        }

        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        unsafe extern "C" fn strlen(text: *const core::ffi::c_char) -> usize {
            core::arch::naked_asm!("jmp {}", sym $crate::start::memory_asm::length)
        }

        /// Named by unwind tables of the prebuilt libraries; with `panic = "abort"` nothing calls it.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}

        /// Named by landing pads of unoptimised code; with `panic = "abort"` nothing calls it.
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            $crate::start::panic::unwound()
        }
    };
}
