//! From a name on the command line to the program's first instruction. Zone: load.
//!
//! The steps of `execve` in its order (fs/exec.c, fs/binfmt_elf.c), with one more between mapping and starting: every
//! system call that is mapped by then is replaced. [`mapped`] is for programs for which the kernel has made the first
//! of these steps.

mod adopt;
pub(crate) mod mapped;

use crate::abi::auxv::{AuxEntry, AuxKind};
use crate::abi::errno::Errno;
use crate::abi::map::{self as flags, Protection};
use crate::abi::process::{ADDR_NO_RANDOMIZE, ImageMap};
use crate::addr::{AddrRange, GuestAddr, PAGE};
use crate::elf::image::{Image, Kind, StackProtection};
use crate::elf::interp_note::Record;
use crate::elf::{self, Role, needed, symbol};
use crate::exec::script;
use crate::exec::stack::{Contents, InitialStack};
use crate::load::map::{self, Base, Mapping};
use crate::load::{Process, jump_asm, path, rendezvous};
use crate::runtime::backstop::sud;
use crate::runtime::code::reach::Reach;
use crate::runtime::memory::code_writer;
use crate::sys::file::{self, Identity, OpenFile};
use crate::sys::view::View;
use crate::sys::{mem, process};
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;

/// Where the kernel puts programs that have an interpreter: two thirds up the address space (ELF_ET_DYN_BASE,
/// arch/x86/include/asm/elf.h).
const PROGRAM_BASE: u64 = 0x5555_5555_4000;
/// How far the break may be from the image, at random: 1 GiB (arch/x86/kernel/process.c, `arch_randomize_brk`).
const BREAK_SPREAD: u64 = 1 << 30;

/// Why a program can't be started.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The kernel refused something about this file.
    Kernel(Errno),
    /// The file is not a program that can be run.
    Image(elf::Error, Role),
    /// Scripts that interpret each other.
    ScriptDepth,
    /// Its arguments and environment don't fit.
    StackFull,
}

impl Fault {
    /// Whether there is no such file.
    #[must_use]
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Kernel(Errno::ENOENT))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(errno) => write!(f, "{errno}"),
            Self::Image(error, role) => write!(f, "{}: {error}", error.errno(*role)),
            Self::ScriptDepth => write!(f, "{}: scripts interpret each other", Errno::ELOOP),
            Self::StackFull => write!(f, "{}", Errno::E2BIG),
        }
    }
}

/// A fault and the files that it is about.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What is wrong.
    pub fault: Fault,
    /// The program that can't be started.
    pub program: CString,
    /// The file that is at fault, where it is another: an interpreter.
    pub interpreter: Option<CString>,
}

/// A program that has been found: its file, and what it is started with.
#[derive(Debug)]
pub(crate) struct Found {
    /// The path given to `execve`: the script's, if it is one.
    path: CString,
    /// The path of the program file itself.
    file_path: CString,
    file: OpenFile,
    view: View,
    args: Vec<CString>,
    /// Whether it was named by a descriptor only.
    nameless: bool,
}

impl Found {
    /// The thread's name (fs/exec.c, `begin_new_exec`): of the path, or since 6.14, where there is none, of the file.
    #[must_use]
    pub(crate) fn name(&self) -> CString {
        let exe = self.exe();
        let is_of_file = self.nameless && process::release() >= (6, 14);
        let path = if is_of_file { exe.to_bytes() } else { self.path.to_bytes() };
        let path = if is_of_file { path.strip_suffix(b" (deleted)").unwrap_or(path) } else { path };
        CString::new(path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()).unwrap_or_default()
    }

    /// The program file's path as `/proc/self/exe` would show it.
    #[must_use]
    pub(crate) fn exe(&self) -> CString {
        let mut link = alloc::format!("/proc/self/fd/{}", self.file.fd().number());
        link.push('\0');
        let mut buffer = [0_u8; 4096];
        CStr::from_bytes_with_nul(link.as_bytes())
            .ok()
            .and_then(|link| crate::sys::file::read_link(link, &mut buffer).ok())
            .and_then(|exe| CString::new(exe).ok())
            .unwrap_or_else(|| self.file_path.clone())
    }

    /// The options that `loader set-interp` recorded in the program.
    #[must_use]
    pub(crate) fn options(&self) -> Vec<CString> {
        let image = Image::parse(self.view.bytes()).ok();
        let record = image.as_ref().and_then(Record::of);
        record.map(|record| record.options().map(CString::from).collect()).unwrap_or_default()
    }
}

/// Finds the program `name`, through any scripts.
///
/// # Errors
///
/// What `execvp` would fail with, and the file it is about.
pub(crate) fn find(name: &CStr, args: &[&CStr], search: Option<&[u8]>) -> Result<Found, Failure> {
    let path = path::find(name, search).map_err(|errno| Failure {
        fault: Fault::Kernel(errno),
        program: name.into(),
        interpreter: None,
    })?;
    resolve(path, args, None, false)
}

/// Goes from the program at `path` through any scripts. Where `file` is given, it is that program's; `nameless` says
/// that `path` only describes it.
///
/// # Errors
///
/// What `execve` would fail with, and the file it is about.
pub(crate) fn resolve(
    path: CString,
    args: &[&CStr],
    file: Option<OpenFile>,
    nameless: bool,
) -> Result<Found, Failure> {
    let mut opened = file;
    let mut args: Vec<CString> = args.iter().map(|&arg| arg.into()).collect();
    let mut current = path.clone();
    for _ in 0..=script::NESTING_MAX {
        let kernel = |errno| Failure {
            fault: Fault::Kernel(errno),
            program: path.clone(),
            interpreter: (current != path).then(|| current.clone()),
        };
        let file = opened.take().map_or_else(|| path::open(&current), Ok).map_err(kernel)?;
        let view = View::of(file.fd()).map_err(kernel)?;
        let head = view.bytes().get(..script::HEAD_LEN.min(view.bytes().len())).unwrap_or_default();
        let shebang = script::parse(head).map_err(|error| kernel(error.errno()))?;
        let Some(shebang) = shebang else {
            return Ok(Found { path, file_path: current, file, view, args, nameless });
        };
        let interpreter = CString::new(shebang.interpreter).map_err(|_| kernel(Errno::ENOEXEC))?;
        let mut front = alloc::vec![interpreter.clone()];
        if let Some(arg) = shebang.argument {
            front.push(CString::new(arg).map_err(|_| kernel(Errno::ENOEXEC))?);
        }
        front.push(current);
        args.splice(..args.len().min(1), front);
        current = interpreter;
    }
    Err(Failure { fault: Fault::ScriptDepth, program: path, interpreter: None })
}

/// Maps, patches and starts the program.
///
/// # Errors
///
/// What keeps it from starting; nothing of it has run then.
pub(crate) fn start(
    found: Found,
    process: &Process,
    loader: Option<Identity>,
) -> Result<core::convert::Infallible, Failure> {
    let (name, exe) = (found.name(), found.exe());
    let Found { path, file, view, args, .. } = found;
    let failure = |fault| Failure { fault, program: path.clone(), interpreter: None };
    let image = Image::parse(view.bytes()).map_err(|error| failure(Fault::Image(error, Role::Program)))?;
    let interpreter_path = interpreter_of(&image, loader);
    let base = match (image.kind(), &interpreter_path) {
        (Kind::Relocatable, Some(_)) => Base::Preferred(random_base()),
        _ => Base::Anywhere,
    };
    let (mapping, end) = place(&image, file, base).map_err(failure)?;
    let interpreter = interpreter_path.as_deref().map(|path| place_interpreter(path, failure)).transpose()?;
    adopt::adopt_vdso(process.aux(AuxKind::SYSINFO_EHDR.0));
    let stack = build_stack(&path, &args, process, &image, &mapping, interpreter.as_ref().map(|it| it.bias))
        .ok_or(Fault::StackFull)
        .map_err(failure)?;
    let entry = entry(&image, &mapping, interpreter.as_ref());
    let break_start = break_start(&image, mapping.span.end, end, interpreter.is_none());
    process::set_name(&name);
    publish_image(&image, &mapping, &stack, break_start);
    if image.stack() == StackProtection::Executable {
        make_stack_executable(stack.sp);
        sud::note_writable(stack.sp);
    }
    rendezvous::announce(&rendezvous::Program {
        path: &exe,
        bias: mapping.bias,
        dynamic: symbol::dynamic_section(&image).map_or(GuestAddr(0), |vaddr| mapping.at(vaddr)),
        others: interpreter.map_or(GuestAddr(0), |it| it.objects),
    });
    drop(view);
    // SAFETY: the stack's area ends where the kernel's initial stack ended; all that was read from there has been
    // copied.
    unsafe { enter(&stack, entry) }
}

/// Puts the stack into its place and leaves for the program.
///
/// # Safety
///
/// Everything that the program needs is mapped; nothing on the kernel's initial stack is looked at any more.
unsafe fn enter(stack: &InitialStack, entry: GuestAddr) -> ! {
    sud::begin();
    // SAFETY: as the caller vouches; the loader runs on a stack of its own.
    unsafe {
        code_writer::write(stack.sp, &stack.bytes);
        jump_asm::start_program(stack.sp.0, entry.0)
    }
}

/// The path of the program's own interpreter, where the one it names may be `loader`; `None` if it needs none.
fn interpreter_of(image: &Image<'_>, loader: Option<Identity>) -> Option<CString> {
    let named = image.interpreter()?;
    let is_loader = || loader.is_some() && file::facts_at(named).ok().map(|facts| facts.identity) == loader;
    match Record::of(image) {
        Some(record) => Some(record.interpreter.into()),
        None if is_loader() => needed::usual_interpreter(image).map(CString::from),
        None => Some(named.into()),
    }
}

/// Maps and patches an image, and closes its file; returns also the end of all that belongs to it.
fn place(image: &Image<'_>, file: OpenFile, base: Base) -> Result<(Mapping, GuestAddr), Fault> {
    let mapping = map::map(image, file.fd(), base).map_err(Fault::Kernel)?;
    drop(file);
    let is_apart = image.kind() == Kind::Fixed || matches!(base, Base::Preferred(_));
    let room = is_apart.then(|| Reach::behind(mapping.span));
    let end = adopt::adopt(image, &mapping, room).map_err(Fault::Kernel)?;
    Ok((mapping, end))
}

/// An interpreter in memory.
struct Interpreter {
    bias: u64,
    entry: GuestAddr,
    /// The list that it leaves for debuggers; 0 if it says nothing of one.
    objects: GuestAddr,
}

/// Where it all starts. For a program that names an interpreter and runs without one, what it may have left to it is
/// done first.
fn entry(image: &Image<'_>, mapping: &Mapping, interpreter: Option<&Interpreter>) -> GuestAddr {
    if let Some(interpreter) = interpreter {
        return interpreter.entry;
    }
    if image.interpreter().is_some() {
        for (vaddr, addend) in needed::relative_relocations(image) {
            // SAFETY: the word lies in a writable segment of the program, which does not run yet.
            unsafe { code_writer::write(mapping.at(vaddr), &mapping.at(addend).0.to_ne_bytes()) };
        }
    }
    mapping.at(image.entry())
}

/// Maps and patches the interpreter at `path`.
fn place_interpreter(path: &CStr, failure: impl Fn(Fault) -> Failure) -> Result<Interpreter, Failure> {
    let failure = |fault| Failure { interpreter: Some(path.into()), ..failure(fault) };
    let file = path::open(path).map_err(|errno| failure(Fault::Kernel(errno)))?;
    let view = View::of(file.fd()).map_err(|errno| failure(Fault::Kernel(errno)))?;
    let image = Image::parse_interpreter(view.bytes())
        .map_err(|error| failure(Fault::Image(error, Role::Interpreter)))?;
    let (mapping, _) = place(&image, file, Base::Anywhere).map_err(failure)?;
    let objects = symbol::address_of(&image, c"_r_debug").map_or(GuestAddr(0), |vaddr| mapping.at(vaddr));
    Ok(Interpreter { bias: mapping.bias, entry: mapping.at(image.entry()), objects })
}

/// Whether addresses are to be random, as they are for every process that has not asked otherwise.
fn randomises() -> bool {
    process::personality() & ADDR_NO_RANDOMIZE == 0
}

/// A random number of pages below `limit` bytes, in bytes.
fn random_pages(limit: u64) -> u64 {
    if randomises() { process::random().unwrap_or(0) % (limit / PAGE) * PAGE } else { 0 }
}

fn random_base() -> GuestAddr {
    const SPREAD: u64 = 1 << 40; // 28 bits of pages (CONFIG_ARCH_MMAP_RND_BITS)
    GuestAddr(PROGRAM_BASE).wrapping_add(random_pages(SPREAD))
}

fn build_stack(
    path: &CStr,
    args: &[CString],
    process: &Process,
    image: &Image<'_>,
    mapping: &Mapping,
    interpreter_bias: Option<u64>,
) -> Option<InitialStack> {
    let string = |kind: AuxKind| {
        process.aux(kind.0).map(|at| {
            // SAFETY: the kernel points these entries at strings on the initial stack.
            unsafe { CStr::from_ptr(core::ptr::with_exposed_provenance(at as usize)) }
        })
    };
    let path_end = process
        .aux(AuxKind::EXECFN.0)
        .zip(string(AuxKind::EXECFN))
        .map(|(at, path)| at + path.count_bytes() as u64 + 1)?;
    let mut random = [0_u8; 16];
    if let Some(at) = process.aux(AuxKind::RANDOM.0) {
        // SAFETY: the kernel points AT_RANDOM at 16 bytes.
        random = unsafe { *core::ptr::with_exposed_provenance::<[u8; 16]>(at as usize) };
    }
    let headers = mapping.at(image.program_headers_vaddr().unwrap_or(0)).0;
    let auxv: Vec<AuxEntry> = process
        .auxv
        .iter()
        .map(|&[kind, value]| {
            let kind = AuxKind(kind);
            let value = match kind {
                AuxKind::PHDR => headers,
                AuxKind::PHNUM => image.program_header_count().into(),
                AuxKind::BASE => interpreter_bias.unwrap_or(0),
                AuxKind::ENTRY => mapping.at(image.entry()).0,
                _ => value,
            };
            AuxEntry { kind, value }
        })
        .collect();
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let contents = Contents {
        args: &args,
        env: process.env,
        path,
        platform: string(AuxKind::PLATFORM),
        base_platform: string(AuxKind::BASE_PLATFORM),
        random,
        auxv: &auxv,
    };
    // The kernel leaves one word above the path string (fs/exec.c, `bprm_mm_init`).
    contents.build(GuestAddr(path_end.checked_add(8)?))
}

/// Where the program's heap starts: behind the image, at random, as `load_elf_binary` puts it.
fn break_start(image: &Image<'_>, image_end: GuestAddr, end: GuestAddr, alone: bool) -> u64 {
    if alone && image.kind() == Kind::Relocatable {
        process::current_break() // where the kernel put the loader's own, which is a program of the same kind
    } else {
        // Trampolines behind the image push it further; the rest of the spread is still random.
        let pushed = end.0 - image_end.0;
        end.wrapping_add(random_pages(BREAK_SPREAD.saturating_sub(pushed).max(PAGE))).0
    }
}

/// Makes what the kernel says about the process be about the program.
fn publish_image(image: &Image<'_>, mapping: &Mapping, stack: &InitialStack, break_start: u64) {
    // A kernel without PR_SET_MM_MAP leaves the loader's own answers in /proc and its break, which work as well.
    let _ = process::set_image(&image_map(image, mapping, stack, break_start));
}

fn image_map(image: &Image<'_>, mapping: &Mapping, stack: &InitialStack, break_start: u64) -> ImageMap {
    let segments = || image.segments().iter();
    let code = || segments().filter(|segment| segment.executable);
    let lowest_code = code().map(|segment| segment.vaddr).min().unwrap_or(0);
    let code_end = code().map(|segment| segment.vaddr.wrapping_add(segment.file_size)).max().unwrap_or(0);
    let data = segments().map(|segment| segment.vaddr).max().unwrap_or(0);
    let data_end = segments().map(|segment| segment.vaddr.wrapping_add(segment.file_size)).max().unwrap_or(0);
    ImageMap {
        start_code: mapping.at(lowest_code).0,
        end_code: mapping.at(code_end).0,
        start_data: mapping.at(data).0,
        end_data: mapping.at(data_end).0,
        start_brk: break_start,
        brk: break_start,
        start_stack: stack.sp.0,
        arg_start: stack.args.start.0,
        arg_end: stack.args.end.0,
        env_start: stack.env.start.0,
        env_end: stack.env.end.0,
        // The bytes are still in the builder's buffer; the kernel copies them now.
        auxv: stack.bytes.as_ptr().wrapping_add((stack.auxv.start.0 - stack.sp.0) as usize).cast_mut().cast(),
        auxv_size: stack.auxv.len() as u32,
        exe_fd: u32::MAX,
    }
}

fn make_stack_executable(sp: GuestAddr) {
    let page = AddrRange::new(sp.page_floor(), sp.page_floor().wrapping_add(PAGE));
    let rights = Protection::new(true, true, true).bits() | flags::GROWS_DOWN;
    // Denied under PR_SET_MDWE, where the kernel's own attempt fails too.
    let _ = mem::protect(page, Protection::from_bits(rights));
}
