//! Calls that the backstop has caught, and the sites that they came from. Zone: call.
//!
//! A caught call is proof enough of an instruction: its thread goes on in a stub made for the site, so that hooks, signals and
//! debuggers see what they see of a patched site. The bytes stay, unless more is known than that.

use crate::abi::bpf::AUDIT_ARCH_I386;
use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::map::Sharing;
use crate::abi::signal::{SYS_USER_DISPATCH, SigContext};
use crate::abi::sysno;
use crate::addr::{AddrRange, GuestAddr};
use crate::find::executed;
use crate::find::site::{Site, Text};
use crate::hook::tool::Verdict;
use crate::plan::relay;
use crate::plan::stub::{self, Instruction};
use crate::runtime::backstop::{int80, sud};
use crate::runtime::code::patched::{self, Content};
use crate::runtime::code::patcher::{self, Patcher};
use crate::runtime::code::{job, traps};
use crate::runtime::gate::{gate_asm, restorer, stubs};
use crate::runtime::memory::maps::{self, Mapping};
use crate::runtime::memory::{code_writer, read};
use crate::runtime::session;
use crate::runtime::session::guest::Memory;
use crate::runtime::signal::action;
use crate::runtime::signal::frame::Frame;
use crate::sys::guest_memory;
use crate::sys::signal::AllBlocked;

/// The longest text that is searched for what surrounds one site, in bytes.
const TEXT_MAX: u64 = 16 << 20;

/// Has a call that was caught go on in the stub of its site. Returns false for a signal
/// that the kernel has not raised for the backstop.
///
/// What a program sends itself looks the same but for the place where it comes.
#[must_use]
pub(crate) fn resume_in_stub(frame: Frame) -> bool {
    let (info, context) = (*frame.info(), frame.context());
    let back = GuestAddr(context.rip);
    if info.code != SYS_USER_DISPATCH || info.addr() != back.0 || gate_asm::whole().contains(back) {
        return false;
    }
    let instruction = if info.arch() == AUDIT_ARCH_I386 { Instruction::Int80 } else { Instruction::Syscall };
    if sud::yields() {
        context.rip -= instruction.bytes().len() as u64;
        return true;
    }
    sud::count_caught();
    match entry_of(back, instruction, info.syscall()) {
        Some(entry) => int80::go_on(frame, entry),
        None => make_bare(context, instruction),
    }
    true
}

/// Where the stub is entered of the site that ends at `back`; made now if it has none. `None` if none can be made.
fn entry_of(back: GuestAddr, instruction: Instruction, nr: u32) -> Option<GuestAddr> {
    let site = back.wrapping_sub(instruction.bytes().len() as u64);
    let known = || {
        let entry = traps::entry_of(site)?;
        let fields = stubs::fields(stubs::index_of(entry))?;
        (fields.back == back && fields.instruction == instruction).then_some(entry)
    };
    known().or_else(|| {
        let _blocked = AllBlocked::new()?;
        let mut patcher = patcher::lock();
        // Another thread may have been first.
        known().or_else(|| patcher.stub_of(Site::executed(site), instruction, nr))
    })
}

impl Patcher {
    /// Where the stub is entered of a site that was executed with the number `nr`: the site is patched where that is safe,
    /// and else stays as it is.
    fn stub_of(&mut self, site: Site, instruction: Instruction, nr: u32) -> Option<GuestAddr> {
        if !self.stubs.has_room_for_caught() {
            return None;
        }
        let range = AddrRange::new(site.at, site.back());
        let mut bytes = [0; 2];
        let is_there =
            guest_memory::read_memory(site.at, &mut bytes).is_err() || bytes == instruction.bytes();
        if !is_there || instruction == Instruction::Syscall && self.patch_executed(range, nr) {
            // Perhaps by another thread just before.
            let stub = self.stubs.active_in(range).find(|(_, fields)| fields.back == site.back());
            return stub.map(|(_, fields)| fields.at.wrapping_add(stub::PLAIN_ENTRY as u64));
        }
        if !patched::known().overlaps(range) {
            let is_known = patched::known().insert(code_writer::pages(range), Content::Caught, 0);
            is_known.then_some(())?;
        }
        // SAFETY: nothing that is allocated is left.
        let entry = unsafe { patcher::with_scratch(|| self.stubs.make(site, instruction)) }?;
        traps::add(site.at, entry).then_some(entry)
    }

    /// Patches the site in `range` if it is known to be code and nobody writes there. Returns whether that is done.
    fn patch_executed(&mut self, range: AddrRange, nr: u32) -> bool {
        let mut before = [0; executed::LOAD_LEN];
        let load = range.start.wrapping_sub(before.len() as u64);
        // What is right before it is looked at first: most of what is caught goes no further.
        if guest_memory::read_memory(load, &mut before) != Ok(before.len())
            || before != executed::load_of(nr)
            || sud::has_address_filters()
        {
            return false;
        }
        // SAFETY: what is known of the mappings and planned lives no longer than this.
        unsafe { patcher::with_scratch(|| self.patch_executed_in(range, nr)) };
        let mut bytes = [0; 2];
        let is_patched = guest_memory::read_memory(range.start, &mut bytes) == Ok(2)
            && bytes != Instruction::Syscall.bytes();
        if is_patched {
            sud::count_patched();
        }
        is_patched
    }

    fn patch_executed_in(&mut self, range: AddrRange, nr: u32) -> Option<()> {
        let whole = AddrRange::new(GuestAddr(0), GuestAddr(u64::MAX));
        let mappings = maps::within(whole).ok()?;
        let mapping = mappings.iter().find(|mapping| mapping.range.contains(range.start))?;
        let rights = mapping.protection;
        let is_quiet = rights.executable() && rights.readable() && !rights.writable();
        let is_own = mapping.sharing == Sharing::Private && range.end <= mapping.range.end;
        if !is_quiet || !is_own || mapping.range.len() > TEXT_MAX {
            return None;
        }
        let file = mapping.file();
        let file = file.as_ref().map(|file| (file.fd(), mapping.offset));
        let Mapping { range: all, .. } = *mapping;
        // SAFETY: the pages are readable, and nobody writes there.
        let memory = || unsafe { read::bytes_of(all.start, all.len()) };
        let text = match file {
            Some((fd, offset)) => patcher::mapped_text(all, all.start, fd, offset)?,
            None => Text { at: all.start, bytes: memory() },
        };
        let access = job::Access::Live { is_writable: false };
        self.patch_viewed_at(text, 0, file, access, Some((range.start, nr)));
        sud::consider(self);
        Some(())
    }
}

/// Makes a call without a stub, of which there are no more. It is told, and not followed; one that returns twice can't
/// be made so.
#[cold]
fn make_bare(context: &mut SigContext, instruction: Instruction) {
    sud::count_bare();
    if sud::is_strict() {
        sud::end(format_args!("no room in the gate for the call at {:#x}", context.rip));
    }
    let SigContext { rdi, rsi, rdx, r10, r8, r9, .. } = *context;
    let mut call = Call { nr: context.rax as u32, args: [rdi, rsi, rdx, r10, r8, r9] };
    let mut outcome = match (instruction, call.nr) {
        (Instruction::Syscall, sysno::RT_SIGRETURN) => {
            context.rip = restorer::restorer().0;
            return;
        }
        (Instruction::Int80, _) | (_, sysno::FORK | sysno::VFORK | sysno::CLONE | sysno::CLONE3) => {
            Outcome::failure(Errno::EAGAIN)
        }
        _ => match session::get() {
            Some(session) => {
                let (verdict, owed) = session.tools.enter(&mut call, &Memory);
                let mut outcome = match verdict {
                    Verdict::Answer(outcome) => outcome,
                    Verdict::Pass | Verdict::PassThenExit => action::as_it_is(&call),
                };
                session.tools.exit(owed, &call, &mut outcome, &Memory);
                outcome
            }
            None => action::as_it_is(&call),
        },
    };
    context.rax = core::mem::take(&mut outcome.0);
}

/// Sends a thread that has met a trap to its stub. Returns false if it has met something else.
#[must_use]
pub(crate) fn resume_trapped(frame: Frame) -> bool {
    let at = GuestAddr(frame.context().rip);
    // Where none is known any more, a jump to a stub may have taken its place meanwhile.
    let jump = || relay::entry_from(at, stubs::range(), |at| patched::known().window(at), |_| Some(at));
    let entry = traps::entry_of(at).or_else(|| jump().filter(|_| frame.info().code > 0));
    entry.inspect(|entry| int80::go_on(frame, *entry)).is_some()
}
