//! Tells a debugger that was started with the loader which program there is. Zone: load.
//!
//! Debuggers find the objects of a process by a list that its executable's `DT_DEBUG` leads to, and stop in a function of
//! a known name when it changes (SVR4; `struct r_debug` of glibc's link.h). To them the loader is the
//! executable and the program an object like others. The program's own dynamic loader has a list too, which the
//! second version of the structure can name.

pub(crate) use super::rendezvous_asm::changed;
use super::rendezvous_asm::own_dynamic_section;
use crate::addr::GuestAddr;
use alloc::boxed::Box;
use core::ffi::CStr;

/// The tag of the entry that leads to the list (psABI, "Dynamic Section").
const DT_DEBUG: u64 = 21;

/// `struct link_map`, as far as it is public.
#[repr(C)]
struct Object {
    bias: u64,
    name: u64,
    dynamic: u64,
    next: u64,
    previous: u64,
}

/// `struct r_debug_extended`.
#[repr(C)]
struct Rendezvous {
    version: u64,
    objects: u64,
    changed: u64,
    /// `RT_CONSISTENT`.
    state: u64,
    base: u64,
    next: u64,
}

/// A program in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program<'p> {
    /// The path of its file.
    pub path: &'p CStr,
    /// Run-time address minus link-time address.
    pub bias: u64,
    /// Its dynamic section; 0 if it has none.
    pub dynamic: GuestAddr,
    /// The list that its dynamic loader will fill; 0 if there is none.
    pub others: GuestAddr,
}

/// Makes the list and leads debuggers to it. What it consists of stays for good.
pub(crate) fn announce(program: &Program<'_>) {
    let own = Box::leak(Box::new(Object {
        bias: 0,
        name: address(c""),
        dynamic: own_dynamic_section(),
        next: 0,
        previous: 0,
    }));
    let object = Box::leak(Box::new(Object {
        bias: program.bias,
        name: address(Box::leak(Box::<CStr>::from(program.path))),
        dynamic: program.dynamic.0,
        next: 0,
        previous: address(own),
    }));
    own.next = address(object);
    let rendezvous = Box::leak(Box::new(Rendezvous {
        version: 1 + u64::from(program.others.0 != 0),
        objects: address(own),
        changed: changed as *const () as u64,
        state: 0,
        base: 0,
        next: program.others.0,
    }));
    lead_to(address(rendezvous));
    changed();
}

fn address<T: ?Sized>(value: &T) -> u64 {
    core::ptr::from_ref(value).expose_provenance() as u64
}

/// Puts the list's address where debuggers look for it.
fn lead_to(list: u64) {
    let mut entry = core::ptr::with_exposed_provenance_mut::<[u64; 2]>(own_dynamic_section() as usize);
    // SAFETY: the dynamic section is an array of pairs that ends with a zero, in the loader's writable segment; nobody
    // else reads it once the loader is relocated.
    unsafe {
        while (*entry)[0] != 0 {
            if (*entry)[0] == DT_DEBUG {
                (*entry)[1] = list;
            }
            entry = entry.add(1);
        }
    }
}
