//! `execve` and `execveat`: the program that comes next runs under the loader too. Zone: call.
//!
//! The kernel is asked to execute the loader once more, with arguments that say so: the loader's name, `--follow=` and
//! the facts of [`Origin`], the options as they were typed, `--`, the path as the program passed it, and the program's
//! own arguments. Only the vector is new; its strings and the environment are the program's own. Whatever the loader
//! can't or must not do, the kernel does natively.
//!
//! The call is made from here and not from the stub: a child of `vfork` runs in its parent's memory, so a record slot
//! or a block that it held when it left would be lost to the parent. The kernel itself gives the block back.

use crate::abi::call::{Call, Outcome};
use crate::abi::errno::Errno;
use crate::abi::map::Protection;
use crate::abi::open::{AT_EMPTY_PATH, AT_FDCWD, PATH_MAX};
use crate::abi::sysno;
use crate::addr::{GuestAddr, page_ceil};
use crate::options::origin::Origin;
use crate::runtime::backstop::sud;
use crate::runtime::calls::exec_check::{self, Judgement, Request};
use crate::runtime::calls::mapped_program::ProgramFile;
use crate::runtime::calls::proc_exe;
use crate::runtime::gate::block::Block;
use crate::runtime::gate::step::Step;
use crate::runtime::session::followed::Followed;
use crate::runtime::session::not_followed::Reason;
use crate::runtime::session::{Session, last_words};
use crate::runtime::signal::{reserved, reserved_mask};
use crate::runtime::tasks;
use crate::sys::file::{self, OpenFile, Place};
use crate::sys::line::Line;
use crate::sys::seccomp::allows;
use crate::sys::{guest_memory, mem, process};
use core::ffi::CStr;
use core::fmt::Write;

/// Words of a vector that lies on the block's stack; a longer one gets a mapping.
const NEAR_WORDS: usize = 2048;
/// Arguments that the program can have; the kernel's own limit is lower for any stack limit below 32 MiB.
const FAR_WORDS: usize = 1 << 20;
/// Bytes for the facts: numbers, each with its name.
const FACTS_LEN: usize = 192;

/// Makes the exec; comes back only if it fails. Its large stack frame is its own.
#[inline(never)]
pub(crate) fn replace(followed: Followed<'_>) -> Step {
    let Followed { block, call, session } = followed;
    if !allows(call.nr, call.args) {
        return Step::Pass;
    }
    let lent = Lent::until_exec(block);
    let ignored = reserved::Ignored::restored();
    let masked = reserved_mask::Real::restored(block);
    let errno = attempt(block, call, session);
    drop(masked);
    drop(ignored);
    drop(lent);
    // A signal that has come meanwhile is one that came before the exec.
    errno.map_or(Step::Leave, |errno| Step::Answer(Outcome::failure(errno)))
}

/// Returns what has failed; `None` if nothing has, but a handler is to run first.
fn attempt(block: &mut Block, call: &Call, session: &Session) -> Option<Errno> {
    let mut bytes = [0; PATH_MAX];
    let request = request_of(call, &mut bytes);
    let behind = request
        .and_then(|request| proc_exe::program_behind(request.place.directory, request.place.path, session));
    let request =
        request.map(|request| Request { behind: behind.as_ref().map(ProgramFile::path), ..request });
    let reason = request.as_ref().and_then(|request| follow(block, request, session));
    if block.has_waiting() {
        return None;
    }
    let path = request.as_ref().map_or(c"", |request| request.place.path).to_bytes();
    if let Some(reason) = reason
        && sud::refuses_native(path, reason)
    {
        return Some(Errno::EPERM);
    }
    // What the kernel runs against all expectation is of a kind that it knows, and nobody else.
    let departure = session.tree.natives.leave(reason.unwrap_or(Reason::Foreign), path);
    let is_last = reason.is_some() && last_words::close_before_native(session);
    let errno = match request {
        Some(Request { behind: Some(path), place, argv, envp }) => {
            execute_behind(path, place.flags, [argv, envp])
        }
        _ => process::execute_as_asked(call.nr, call.args),
    }
    .unwrap_or(Errno::ENOSYS);
    drop(departure);
    if is_last {
        last_words::reopen(session);
    }
    Some(errno)
}

/// Execs a process's program by its path, since its link is the loader's.
fn execute_behind(path: &CStr, flags: u64, [argv, envp]: [u64; 2]) -> Option<Errno> {
    let path = address(path.to_bytes_with_nul());
    match flags & !AT_EMPTY_PATH {
        0 => process::execute_as_asked(sysno::EXECVE, [path, argv, envp, 0, 0, 0]),
        flags => process::execute_as_asked(sysno::EXECVEAT, [AT_FDCWD, path, argv, envp, flags, 0]),
    }
}

/// Execs the loader in the program's place. Comes back if that can't be: with the reason, if the kernel is expected to
/// run the program. Apart from [`attempt`], whose stack frame would else stand below the search for a program's file.
#[inline(never)]
fn follow(block: &mut Block, request: &Request<'_>, session: &Session) -> Option<Reason> {
    let file = match exec_check::judge(request, session) {
        Judgement::Follow(file) => file,
        Judgement::Native(reason) => return Some(reason),
        Judgement::Refused => return None,
    };
    if !session.follows {
        return Some(Reason::NotAsked);
    }
    if file.as_ref().is_some_and(|file| file.keep_at_exec().is_err()) {
        return Some(Reason::NoRoom);
    }
    // Without a descriptor left, what the processes have in common lasts as long as another one has it.
    let memory = session.common.and_then(|common| common.copy().ok());
    let output = session.output.inheritance();
    let facts =
        facts(file.as_ref(), [&memory, &output].map(Option::as_ref), request.place.path.is_empty(), session);
    let name = kernel_name(request);
    let path =
        if name.as_bytes().is_empty() { request.place.path.to_bytes_with_nul() } else { name.as_bytes() };
    let front = Front { facts: facts.as_bytes(), path, session };
    let mut near = [0; NEAR_WORDS];
    let words = match gather(&mut near, &front, request.argv) {
        Ok(()) => &near[..],
        Err(Shortfall::Unreadable) => return None,
        Err(Shortfall::Full) => {
            let Some(far) = far(block) else { return Some(Reason::NoRoom) };
            if gather(far, &front, request.argv).is_err() {
                return Some(Reason::NoRoom);
            }
            &*far
        }
    };
    for loader in [c"/proc/self/exe", session.loader] {
        // After a chroot the same name may be another file's.
        if session.own.is_some() && file::facts_at(loader).ok().map(|facts| facts.identity) == session.own {
            let args = [
                address(loader.to_bytes_with_nul()),
                words.as_ptr().expose_provenance() as u64,
                request.envp,
            ];
            let _ = process::execute(sysno::EXECVE, [args[0], args[1], args[2], 0, 0, 0]);
        }
    }
    Some(Reason::LoaderGone)
}

/// The call as a request; `None` if its path can't be read, or is too long.
fn request_of<'b>(call: &Call, bytes: &'b mut [u8; PATH_MAX]) -> Option<Request<'b>> {
    let [first, second, third, fourth, fifth, _] = call.args;
    let (directory, path, argv, envp, flags) = match call.nr {
        sysno::EXECVE => (AT_FDCWD, first, second, third, 0),
        _ => (first, second, third, fourth, u64::from(fifth as u32)), // int flags
    };
    let path = GuestAddr(path);
    let len = guest_memory::read_memory(path, bytes).ok()?;
    let path = CStr::from_bytes_until_nul(bytes.get(..len)?).ok()?;
    let place = Place { directory, path, flags };
    Some(Request { place, argv, envp, behind: None })
}

/// The word that tells the exec'd loader what it can't find out.
fn facts(
    file: Option<&OpenFile>,
    [memory, output]: [Option<&OpenFile>; 2],
    nameless: bool,
    session: &Session,
) -> Line<FACTS_LEN> {
    let number = |file: &OpenFile| u32::try_from(file.fd().number()).ok();
    let segment = session.common.and_then(|common| common.segment);
    let origin = Origin {
        root: session.root,
        is_root: tasks::is_root(),
        segment: segment.map(|segment| segment.0),
        memory: memory.and_then(number),
        output: output.and_then(number),
        file: file.and_then(number),
        nameless,
        table: session.tree.table().or_else(|| segment.and(session.output.file_len()).map(|len| (len, 0))),
    };
    let mut word = Line::new();
    let _ = write!(word, "--follow={origin}\0");
    word
}

/// What the kernel calls a file that is reached through a descriptor (fs/exec.c, `alloc_bprm`); empty for others.
fn kernel_name(request: &Request<'_>) -> Line<{ PATH_MAX + 24 }> {
    let mut name = Line::new();
    if request.starts_at_descriptor() {
        let _ = write!(name, "/dev/fd/{}", request.place.directory as u32);
        if !request.place.path.is_empty() {
            name.push(b"/");
        }
        name.push(request.place.path.to_bytes_with_nul());
    }
    name
}

/// The words that stand before the program's own arguments; each ends with a zero byte.
struct Front<'a> {
    facts: &'a [u8],
    path: &'a [u8],
    session: &'a Session,
}

impl Front<'_> {
    fn addresses(&self) -> impl Iterator<Item = u64> {
        let (name, options) = self.session.words.split_first().unwrap_or((&c"loader", &[]));
        let head = [name.to_bytes_with_nul(), self.facts].into_iter();
        let options = options.iter().map(|word| word.to_bytes_with_nul());
        let tail = [c"--".to_bytes_with_nul(), self.path].into_iter();
        head.chain(options).chain(tail).map(address)
    }
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr().expose_provenance() as u64
}

/// Why a vector is not complete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shortfall {
    /// The program's own can't be read.
    Unreadable,
    /// There is no room left.
    Full,
}

/// Puts the front and the program's arguments into `words`, and a zero behind them.
fn gather(words: &mut [u64], front: &Front<'_>, argv: u64) -> Result<(), Shortfall> {
    let mut free = words.iter_mut();
    let mut push = |word: u64| free.next().map(|place| *place = word).ok_or(Shortfall::Full);
    front.addresses().try_for_each(&mut push)?;
    if for_each_pointer(GuestAddr(argv), &mut push)? == 0 {
        push(address(c"".to_bytes_with_nul()))?; // as the kernel does since 5.18 (fs/exec.c, `do_execveat_common`)
    }
    push(0)
}

/// Goes through the program's vector at `at`, up to its zero; returns how many pointers it has. None at all is empty.
fn for_each_pointer(
    mut at: GuestAddr,
    take: &mut impl FnMut(u64) -> Result<(), Shortfall>,
) -> Result<usize, Shortfall> {
    let mut count = 0;
    if at.0 == 0 {
        return Ok(count);
    }
    loop {
        let mut chunk = [0_u8; 512];
        let len = guest_memory::read_memory(at, &mut chunk).map_err(|_| Shortfall::Unreadable)?;
        let (pointers, _) = chunk.get(..len).unwrap_or_default().as_chunks::<8>();
        if pointers.is_empty() {
            return Err(Shortfall::Unreadable);
        }
        for pointer in pointers.iter().map(|bytes| u64::from_ne_bytes(*bytes)) {
            if pointer == 0 {
                return Ok(count);
            }
            take(pointer)?;
            count += 1;
        }
        at = at.wrapping_add(pointers.len() as u64 * 8);
    }
}

/// Reach for the longest vector, kept with the block for the next time: its pages are those that were needed.
fn far(block: &mut Block) -> Option<&'static mut [u64]> {
    if block.far_words == 0 {
        let len = page_ceil(FAR_WORDS as u64 * 8)?;
        block.far_words = mem::map_anonymous(mem::Place::Anywhere, len, Protection::READ_WRITE).ok()?.0;
    }
    // SAFETY: the mapping is that long, zero or words at any time, and belongs to whoever holds the block.
    Some(unsafe {
        core::slice::from_raw_parts_mut(
            core::ptr::with_exposed_provenance_mut(block.far_words as usize),
            FAR_WORDS,
        )
    })
}

/// The block of a hook that may end inside the kernel.
///
/// The kernel clears the word that `set_tid_address` names when a thread leaves memory that others go on using
/// (kernel/fork.c, `mm_release`): at just that moment the block is free. A thread that has a word of its own there is
/// one of a process whose memory ends with the exec.
struct Lent {
    is_set: bool,
}

impl Lent {
    fn until_exec(block: &Block) -> Self {
        // A kernel that does not tell: who runs in the memory of another has none, unless `clone` was asked for it.
        let is_set = process::tid_address().map_or_else(|_| !tasks::is_own_process(), |at| at == 0);
        if is_set {
            process::set_tid_address(Some(&block.busy));
            block.claim.clear(); // the kernel gives the block back, and nobody else may
        }
        Self { is_set }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.is_set {
            process::set_tid_address(None);
        }
    }
}
