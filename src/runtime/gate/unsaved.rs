//! Where the loader's own assembly is in between: the program's registers are neither whole nor saved. Zone: call.
//!
//! A signal that interrupts there finds some of them packed, spilled or clobbered. Each such stretch of code is marked
//! where it stands, by [`window!`], with a word that says what it is like there; the linker collects the words in one
//! table. Everywhere else in the loader a hook runs on a block, which has saved all.

use crate::addr::GuestAddr;

/// Starts a window in the text of assembly: the rest of the function is like this, up to the next mark.
macro_rules! window {
    (nothing) => { window!(@ "0") };
    (hooked_whole) => { window!(@ "1") };
    (hooked_swapped) => { window!(@ "2") };
    (hooked_packed_address) => { window!(@ "3") };
    (hooked_packed_offset) => { window!(@ "4") };
    (hooked_packed_index) => { window!(@ "5") };
    (hooked_packed) => { window!(@ "6") };
    (hooked_packed_taken) => { window!(@ "6 + 256") };
    (hooked_packed_perhaps) => { window!(@ "6 + 512") };
    (filter_rotated) => { window!(@ "7") };
    (filter_added) => { window!(@ "8") };
    (filter_swapped) => { window!(@ "9") };
    (filter_whole) => { window!(@ "10") };
    (filtered_whole) => { window!(@ "11") };
    (filtered_swapped) => { window!(@ "12") };
    (filtered_packed_address) => { window!(@ "13") };
    (filtered_packed_offset) => { window!(@ "14") };
    (filtered_packed_index) => { window!(@ "15") };
    (filtered_packed) => { window!(@ "16") };
    (filtered_packed_taken) => { window!(@ "16 + 256") };
    (filtered_packed_perhaps) => { window!(@ "16 + 512") };
    (told_result) => { window!(@ "17") };
    (told_spilled) => { window!(@ "18") };
    (told_area) => { window!(@ "19") };
    (told_area_taken) => { window!(@ "19 + 256") };
    (told_area_perhaps) => { window!(@ "19 + 512") };
    (split_start) => { window!(@ "20") };
    (split) => { window!(@ "21") };
    (leave_start) => { window!(@ "22") };
    (leave) => { window!(@ "23") };
    (left) => { window!(@ "24") };
    (path_result) => { window!(@ "25") };
    (path_swapped) => { window!(@ "26") };
    (path_flags) => { window!(@ "27") };
    (path_zero) => { window!(@ "28") };
    (signalled) => { window!(@ "29") };
    (signalled_taken) => { window!(@ "29 + 256") };
    (signalled_perhaps) => { window!(@ "29 + 512") };
    (hooked_masking) => { window!(@ "30") };
    (filtered_masking) => { window!(@ "31") };
    (told_masking) => { window!(@ "32") };
    (signalled_masking) => { window!(@ "33") };
    (unmasking) => { window!(@ "34") };
    (@ $word:literal) => {
        concat!(
            "990:\n",
            ".pushsection loader_windows,\"aR\",@progbits\n",
            ".long 990b - .\n",
            ".long ", $word, "\n",
            ".popsection\n",
        )
    };
}
pub(crate) use window;

/// Whether a block has been taken in a window; it is the one at r11.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// None has.
    No,
    /// One has.
    Yes,
    /// One has if ecx is below the current generation.
    Perhaps,
}

/// What rcx holds of a stub, or of a dedicated slot's record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Index {
    /// Its address.
    Address,
    /// Its offset from the first.
    Offset,
    /// Its number.
    Number,
    /// Nothing: the number is in ax.
    InRax,
}

/// Where a value is that was in rax.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// In eax.
    Whole,
    /// In the upper half of rax, its bytes in reverse order.
    Swapped,
    /// In bits 16 to 47, its bytes in reverse order; above them the flags.
    Packed,
}

/// Where the arithmetic flags are, when a call is about to go through a dedicated slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flags {
    /// Where they belong.
    Live,
    /// OF in al, the others in ah.
    InAx,
    /// OF where it belongs, the others in ah.
    OverflowLive,
}

/// What is to be done on the block once signals are blocked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masking {
    /// As [`Window::Hooked`], packed.
    Hooked,
    /// As [`Window::Filtered`], packed.
    Filtered,
    /// As [`Window::ToldArea`].
    Told,
    /// As [`Window::Signalled`].
    Signalled,
}

/// What it is like in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// A call that is not made yet comes from a stub.
    Hooked(Value, Index),
    /// It is about to be made in the dedicated slot whose code rcx points at.
    Filter(Value, Flags),
    /// A call has returned in a dedicated slot, and the hook is to see it.
    Filtered(Value, Index),
    /// A call has returned in a slot: the record's area is in rcx, the result in rax.
    ToldResult,
    /// The result is in the area.
    ToldSpilled,
    /// So are the flags, and the area is in rax.
    ToldArea,
    /// A call has returned that returns twice: the record is in rcx, the result in rax.
    SplitStart,
    /// The record is in r11.
    Split,
    /// A hook is done and has left all in the block at rbx.
    LeaveStart,
    /// In the block at r11.
    Leave,
    /// All is as the program will have it, rcx is where it goes on.
    Left,
    /// A filter looks at a call that has returned: the record is in rcx, the flags in r11, and the result here.
    Path(Value),
    /// As `Path`, the flags in eax and the result above them.
    PathFlags,
    /// As `Path`, and the result is 0.
    PathZero,
    /// A signal has just come for the handler whose entry is in rax.
    Signalled,
    /// The program's registers are in the block at rbp, and signals are about to be blocked.
    Masking(Masking),
    /// A hook is done and has left all in the block at rbp; signals are unblocked.
    Unmasking,
}

#[repr(C)]
struct Mark {
    /// From here to the first instruction.
    distance: i32,
    word: u32,
}

unsafe extern "C" {
    static __start_loader_windows: Mark;
    static __stop_loader_windows: Mark;
}

/// All marks.
fn marks() -> &'static [Mark] {
    let start = &raw const __start_loader_windows;
    let bytes = (&raw const __stop_loader_windows).addr() - start.addr();
    // SAFETY: the linker has put the marks of all files between the two symbols.
    unsafe { core::slice::from_raw_parts(start, bytes / size_of::<Mark>()) }
}

/// The window that `at` lies in, if any, and whether a block has been taken there.
#[must_use]
pub fn around(at: GuestAddr) -> Option<(Window, Taken)> {
    let start = |mark: &Mark| {
        let distance = i64::from(mark.distance).cast_unsigned();
        GuestAddr((core::ptr::from_ref(mark).addr() as u64).wrapping_add(distance))
    };
    let before = marks().iter().map(|mark| (start(mark), mark.word)).filter(|(start, _)| *start <= at);
    let (_, word) = before.max()?;
    let taken = match word >> 8 {
        0 => Taken::No,
        1 => Taken::Yes,
        _ => Taken::Perhaps,
    };
    Some((window_of(word & 0xff)?, taken))
}

const fn window_of(number: u32) -> Option<Window> {
    Some(match number {
        1 => Window::Hooked(Value::Whole, Index::Address),
        2 => Window::Hooked(Value::Swapped, Index::Address),
        3 => Window::Hooked(Value::Packed, Index::Address),
        4 => Window::Hooked(Value::Packed, Index::Offset),
        5 => Window::Hooked(Value::Packed, Index::Number),
        6 => Window::Hooked(Value::Packed, Index::InRax),
        7 => Window::Filter(Value::Swapped, Flags::InAx),
        8 => Window::Filter(Value::Swapped, Flags::OverflowLive),
        9 => Window::Filter(Value::Swapped, Flags::Live),
        10 => Window::Filter(Value::Whole, Flags::Live),
        11 => Window::Filtered(Value::Whole, Index::Address),
        12 => Window::Filtered(Value::Swapped, Index::Address),
        13 => Window::Filtered(Value::Packed, Index::Address),
        14 => Window::Filtered(Value::Packed, Index::Offset),
        15 => Window::Filtered(Value::Packed, Index::Number),
        16 => Window::Filtered(Value::Packed, Index::InRax),
        17 => Window::ToldResult,
        18 => Window::ToldSpilled,
        19 => Window::ToldArea,
        20 => Window::SplitStart,
        21 => Window::Split,
        22 => Window::LeaveStart,
        23 => Window::Leave,
        24 => Window::Left,
        25 => Window::Path(Value::Whole),
        26 => Window::Path(Value::Swapped),
        27 => Window::PathFlags,
        28 => Window::PathZero,
        29 => Window::Signalled,
        30 => Window::Masking(Masking::Hooked),
        31 => Window::Masking(Masking::Filtered),
        32 => Window::Masking(Masking::Told),
        33 => Window::Masking(Masking::Signalled),
        34 => Window::Unmasking,
        _ => return None,
    })
}

/// CF, PF, AF, ZF and SF, as `lahf` and `sahf` carry them.
const LOW_FLAGS: u64 = 0xd5;
/// OF.
const OVERFLOW: u64 = 1 << 11;

impl Masking {
    /// What it is like with rax as it was spilled and the block at r11.
    #[must_use]
    pub const fn window(self) -> Window {
        match self {
            Self::Hooked => Window::Hooked(Value::Packed, Index::InRax),
            Self::Filtered => Window::Filtered(Value::Packed, Index::InRax),
            Self::Told => Window::ToldArea,
            Self::Signalled => Window::Signalled,
        }
    }
}

impl Value {
    /// The value, from rax.
    #[must_use]
    pub const fn of(self, rax: u64) -> u32 {
        match self {
            Self::Whole => rax as u32,
            Self::Swapped => ((rax >> 32) as u32).swap_bytes(),
            Self::Packed => ((rax >> 16) as u32).swap_bytes(),
        }
    }

    /// The flags, from rax and what the processor had.
    #[must_use]
    pub const fn flags(self, rax: u64, live: u64) -> u64 {
        match self {
            Self::Whole | Self::Swapped => live,
            Self::Packed => with_flags(live, (rax >> 48) as u8, (rax >> 56) as u8),
        }
    }
}

impl Flags {
    /// The flags, from rax and what the processor had.
    #[must_use]
    pub const fn of(self, rax: u64, live: u64) -> u64 {
        let overflow = if live & OVERFLOW != 0 { 1 } else { 0 };
        match self {
            Self::Live => live,
            Self::InAx => with_flags(live, rax as u8, (rax >> 8) as u8),
            Self::OverflowLive => with_flags(live, overflow, (rax >> 8) as u8),
        }
    }
}

/// `live` with OF from `overflow` and the others from `low`, as `seto` and `lahf` left them.
#[must_use]
pub const fn with_flags(live: u64, overflow: u8, low: u8) -> u64 {
    let overflow = if overflow & 1 != 0 { OVERFLOW } else { 0 };
    live & !(LOW_FLAGS | OVERFLOW) | overflow | low as u64 & LOW_FLAGS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::gate::enter_asm;
    use proptest::prelude::*;

    #[test]
    fn the_landings_begin_with_their_windows() {
        let at = |landing: unsafe extern "C" fn() -> !| around(GuestAddr(landing as *const () as u64));
        let whole = Window::Hooked(Value::Whole, Index::Address);
        assert_eq!(at(enter_asm::hooked), Some((whole, Taken::No)));
        assert_eq!(at(enter_asm::told), Some((Window::ToldResult, Taken::No)));
        assert_eq!(at(enter_asm::told_split), Some((Window::SplitStart, Taken::No)));
        assert_eq!(at(enter_asm::signalled), Some((Window::Signalled, Taken::No)));
    }

    #[test]
    fn a_function_in_rust_is_no_window() {
        assert_eq!(around(GuestAddr(window_of as *const () as u64)), None);
    }

    proptest! {
        #[test]
        fn a_packed_number_and_its_flags_are_found_again(nr in any::<u32>(), index in any::<u16>(), flags in any::<u64>()) {
            let live = flags & (LOW_FLAGS | OVERFLOW);
            let overflow = u64::from(live & OVERFLOW != 0);
            // `bswap rax; lahf; seto al; ror rax, 16; mov ax, cx`.
            let swapped = u64::from(nr).swap_bytes() | (live & LOW_FLAGS) << 8 | overflow;
            let packed = swapped.rotate_right(16) & !0xffff | u64::from(index);
            prop_assert_eq!(Value::Swapped.of(swapped), nr);
            prop_assert_eq!(Value::Packed.of(packed), nr);
            prop_assert_eq!(Value::Packed.flags(packed, 0), live);
            prop_assert_eq!(Flags::InAx.of(packed.rotate_left(16), 0), live);
            prop_assert_eq!(Flags::OverflowLive.of(packed.rotate_left(16), live & OVERFLOW), live);
        }
    }
}
