//! A program that the kernel has mapped and started, with the loader as its interpreter (`PT_INTERP`). Zone: load.
//!
//! It is taken as it lies: its segments, its stack, its break, its names are the kernel's own. What is left to do is to
//! replace its system calls, to map its own interpreter and patch that, and to say so in `AT_BASE`, on the stack and in
//! `/proc/self/auxv`.

use crate::abi::auxv::{AuxEntry, AuxKind};
use crate::abi::errno::Errno;
use crate::abi::open::AT_FDCWD;
use crate::abi::sysno;
use crate::addr::{AddrRange, GuestAddr};
use crate::elf::Role;
use crate::elf::image::{Image, Segment};
use crate::elf::mapped::Mapped;
use crate::exec::stack::InitialStack;
use crate::launch::{Failure, Fault, Found, adopt};
use crate::load::Process;
use crate::load::map::{self, Mapping};
use crate::options::origin::Origin;
use crate::runtime::code::reach::Reach;
use crate::sys::file::{self, Access, Identity, OpenFile};
use crate::sys::view::View;
use crate::sys::{guest_memory, ids, process};
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;

/// The kernel's link to the program's file.
const LINK: &CStr = c"/proc/self/exe";

/// Finds the file of the program that lies in memory.
///
/// # Errors
///
/// The kernel's, where there is no telling what lies there.
pub(crate) fn find(process: &Process) -> Result<Found, Failure> {
    let found = |name: &CStr, file, view| Found {
        path: process.path().into(),
        file_path: name.into(),
        file,
        view,
        args: Vec::new(),
        nameless: false,
    };
    // Without /proc: the path that was passed to the exec, or, where that is a script's, the name in its first line.
    // Both are the caller's words, so a program with rights of its own does not take them.
    let words = [process.path()].into_iter().chain(process.args.first().copied());
    let names = [LINK].into_iter().chain(words.filter(|_| !process.is_secure()));
    let mut first_error = None;
    for name in names {
        match open(name) {
            Ok((file, view)) if name == LINK || is_mapped(&view, process) => {
                return Ok(found(name, file, view));
            }
            Ok(_) => {}
            Err(errno) => first_error = first_error.or(Some(errno)),
        }
    }
    // It may be run and not read: then what is mapped has to do.
    if let (Ok(file), Some(view)) = (OpenFile::open_link(AT_FDCWD, process.path()), remade(process)) {
        return Ok(found(process.path(), file, view));
    }
    let fault = Fault::Kernel(first_error.unwrap_or(Errno::ENOENT));
    Err(Failure { fault, program: process.path().into(), interpreter: None })
}

fn open(name: &CStr) -> Result<(OpenFile, View), Errno> {
    let file = OpenFile::open(name, Access::Read)?;
    let view = View::of(file.fd())?;
    Ok((file, view))
}

/// Whether the program headers and the code in memory are those of this file.
fn is_mapped(view: &View, process: &Process) -> bool {
    let Ok(image) = Image::parse(view.bytes()) else { return false };
    let bias = process.aux(AuxKind::ENTRY.0).unwrap_or(0).wrapping_sub(image.entry());
    let is_alike = |segment: &Segment| {
        let part = image.bytes_at(segment.vaddr, segment.file_size).unwrap_or_default();
        let mut at = GuestAddr(segment.vaddr.wrapping_add(bias));
        let mut chunk = [0; 4096];
        part.chunks(chunk.len()).all(|part| {
            let read = guest_memory::read_memory(at, chunk.get_mut(..part.len()).unwrap_or_default());
            at = at.wrapping_add(part.len() as u64);
            read == Ok(part.len()) && chunk.starts_with(part)
        })
    };
    table(process).is_some_and(|table| table == image.program_header_table())
        && image.segments().iter().filter(|segment| segment.executable).all(is_alike)
}

/// The program headers in memory.
fn table(process: &Process) -> Option<Vec<u8>> {
    let len = Mapped::table_len(process.aux(AuxKind::PHNUM.0)?.min(u16::MAX.into()));
    let mut table = alloc::vec![0; len as usize];
    let read = guest_memory::read_memory(GuestAddr(process.aux(AuxKind::PHDR.0)?), &mut table).ok()?;
    (read == table.len()).then_some(table)
}

/// The file, put together from what is mapped of it.
fn remade(process: &Process) -> Option<View> {
    let mapped = Mapped::of(&table(process)?, GuestAddr(process.aux(AuxKind::PHDR.0)?))?;
    let fill = |file: &mut [u8]| {
        for (at, range) in mapped.parts() {
            // What can't be read stays zero, and is found to be no program.
            let _ = file.get_mut(range).map(|part| guest_memory::read_memory(at, part));
        }
        let _ = mapped.mend(file);
    };
    View::made(mapped.file_len(), fill).ok()
}

/// The path of the loader: as the program names it, or else as the kernel shows what lies at its base.
#[must_use]
pub(crate) fn loader(found: &Found, process: &Process) -> CString {
    let image = Image::parse(found.view.bytes()).ok();
    let named = image.as_ref().and_then(|image| image.interpreter().map(CString::from));
    // A file that was put together names the program's own interpreter instead.
    let is_file =
        file::facts(found.file.fd()).is_ok_and(|facts| facts.len == found.view.bytes().len() as u64);
    if is_file { named } else { path_of_base(process) }.unwrap_or_default()
}

/// The path of the file that is mapped at `AT_BASE`, by `/proc/self/maps`.
fn path_of_base(process: &Process) -> Option<CString> {
    let maps = OpenFile::open(c"/proc/self/maps", Access::Read).ok()?;
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while let Some(part @ [_, ..]) = file::read(maps.fd(), &mut chunk).ok().and_then(|len| chunk.get(..len)) {
        text.extend_from_slice(part);
    }
    let start = alloc::format!("{:x}-", process.aux(AuxKind::BASE.0)?);
    let line = text.split(|&byte| byte == b'\n').find(|line| line.starts_with(start.as_bytes()))?;
    let path = line.iter().position(|&byte| byte == b'/')?;
    CString::new(line.get(path..)?).ok()
}

/// Execs the loader as a program that is to run this one. For an image of the loader's own that is not whole: without
/// randomised addresses kernels before 6.7 map the vDSO into the hole that they leave in it.
///
/// `words` start the loader: its name, and options. Comes back only if it fails.
pub(crate) fn restart(process: &Process, loader: &CStr, words: &[&CStr], program: &CStr) -> Option<Errno> {
    let origin = CString::new(alloc::format!(
        "--follow={}",
        Origin { root: ids::id(), is_root: true, ..Origin::default() }
    ));
    let origin = origin.unwrap_or_default();
    let origin = origin.as_c_str();
    let (name, options) = words.split_first()?;
    let front = [name, &origin].into_iter().chain(options).chain([&c"--", &program]);
    let address = |text: &&CStr| text.as_ptr().expose_provenance() as u64;
    let argv: Vec<u64> = front.chain(process.args).map(address).chain([0]).collect();
    // argc, the arguments and a zero stand below the environment's vector (psABI 3.4.1).
    let envp = process.sp.wrapping_add((process.args.len() as u64 + 2) * 8);
    let args = [address(&loader), argv.as_ptr().expose_provenance() as u64, envp.0, 0, 0, 0];
    process::execute(sysno::EXECVE, args)
}

/// Patches the program, maps and patches its own interpreter, and starts it.
///
/// # Errors
///
/// What keeps it from starting; nothing of it has run then.
pub(crate) fn start(
    found: Found,
    process: &Process,
    loader: Option<Identity>,
) -> Result<core::convert::Infallible, Failure> {
    let Found { path, file, view, .. } = found;
    drop(file);
    let failure = |fault| Failure { fault, program: path.clone(), interpreter: None };
    let image = Image::parse(view.bytes()).map_err(|error| failure(Fault::Image(error, Role::Program)))?;
    let (mapping, end) = take(&image, process).map_err(|errno| failure(Fault::Kernel(errno)))?;
    let path = super::interpreter_of(&image, loader);
    let interpreter = path.as_deref().map(|path| super::place_interpreter(path, failure)).transpose()?;
    adopt::adopt_vdso(process.aux(AuxKind::SYSINFO_EHDR.0));
    let base = interpreter.as_ref().map_or(0, |it| it.bias);
    let entry = super::entry(&image, &mapping, interpreter.as_ref());
    let stack = stack_with_base(process, base);
    // Trampolines that lie where the break would grow push it further.
    let break_start = end.0.max(process::current_break());
    super::publish_image(&image, &mapping, &stack, break_start);
    drop(view);
    // SAFETY: the stack's bytes are those that lie there already, but for one number that nobody looks at any more.
    unsafe { super::enter(&stack, entry) }
}

/// Patches the program; returns also the end of all that belongs to it.
fn take(image: &Image<'_>, process: &Process) -> Result<(Mapping, GuestAddr), Errno> {
    let entry = process.aux(AuxKind::ENTRY.0).ok_or(Errno::ENOEXEC)?;
    let mapping = map::taken(image, entry.wrapping_sub(image.entry()));
    let end = adopt::adopt_in_place(image, &mapping, Reach::behind(mapping.span))?;
    Ok((mapping, end))
}

/// The initial stack as the kernel has made it, up to the end of the auxiliary vector, in which `AT_BASE` is `base`.
fn stack_with_base(process: &Process, base: u64) -> InitialStack {
    let auxv = GuestAddr(process.auxv.as_ptr().addr() as u64);
    let entries = process.auxv.iter().map(|&[kind, value]| {
        let value = if kind == AuxKind::BASE.0 { base } else { value };
        AuxEntry { kind: AuxKind(kind), value }
    });
    let end = auxv.wrapping_add(((process.auxv.len() + 1) * AuxEntry::LEN) as u64);
    // SAFETY: `from_stack` has walked it all.
    let below = unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance::<u8>(process.sp.0 as usize),
            (auxv.0 - process.sp.0) as usize,
        )
    };
    let mut bytes = below.to_vec();
    for AuxEntry { kind, value } in entries.chain([AuxEntry::END]) {
        bytes.extend(kind.0.to_ne_bytes());
        bytes.extend(value.to_ne_bytes());
    }
    let path = GuestAddr(process.aux(AuxKind::EXECFN.0).unwrap_or(0));
    let start = |strings: &[&CStr]| strings.first().map(|text| GuestAddr(text.as_ptr().addr() as u64));
    let env = start(process.env).unwrap_or(path);
    let args = start(process.args).unwrap_or(env);
    InitialStack {
        sp: process.sp,
        bytes,
        args: AddrRange::new(args, env),
        env: AddrRange::new(env, path),
        auxv: AddrRange::new(auxv, end),
    }
}
