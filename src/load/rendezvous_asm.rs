//! A place that debuggers know by its name, and an address that only the linker knows. Zone: load; [`changed`] is
//! called in any.

use core::arch::naked_asm;

/// Where a debugger stops when the list of objects has changed. It finds the function by this very name.
#[unsafe(export_name = "r_debug_state")]
#[unsafe(naked)]
pub(crate) extern "C" fn changed() {
    naked_asm!("ret")
}

/// The address of the loader's own dynamic section.
#[unsafe(naked)]
pub(crate) extern "C" fn own_dynamic_section() -> u64 {
    naked_asm!("lea rax, [rip + _DYNAMIC]", "ret")
}
