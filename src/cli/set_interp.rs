//! `loader set-interp`: writes programs that the kernel starts under the loader. Zone: load.

use crate::abi::errno::Errno;
use crate::abi::open::{S_ISGID, S_ISUID};
use crate::cli::message::{complain, misused, say, shown};
use crate::cli::own_file::own_file;
use crate::elf::image::Image;
use crate::elf::interp_note::{self, Record, Refusal};
use crate::load::Process;
use crate::options::set_interp::{Action, HELP, Request, parse};
use crate::sys::file::{self, Access, Facts, OpenFile};
use crate::sys::ids::{self, Status};
use crate::sys::view::View;
use alloc::ffi::CString;
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt;

/// Why a file is not written.
enum Fault {
    /// The kernel said so, about this file.
    Kernel(CString, Errno),
    /// The program can't be changed.
    Refused(Refusal),
    /// It gives whoever runs it rights, which a loader that anybody chose must not get.
    Privileged,
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Does what the words ask for.
pub(super) fn main(process: &Process, words: &[&CStr]) -> ! {
    let request = match parse(words.iter().map(|word| word.to_bytes())) {
        Ok(Some(request)) => request,
        Ok(None) => say(format_args!("{HELP}")),
        Err(error) => misused(&error),
    };
    let program = string(request.program);
    match act(process, &request, &program) {
        Ok(text) => say(format_args!("{text}")),
        Err(Fault::Kernel(path, errno)) => {
            complain(Status::CannotRun, format_args!("{}: {errno}", shown(&path)))
        }
        Err(Fault::Refused(refusal)) => refused(&program, refusal),
        Err(Fault::Privileged) => refused(&program, "gives its caller rights (set-id or capabilities)"),
    }
}

fn refused(program: &CStr, reason: impl fmt::Display) -> ! {
    complain(Status::CannotRun, format_args!("{}: {reason}", shown(program)))
}

/// Words of the command line hold no zero byte.
fn string(word: &[u8]) -> CString {
    CString::new(word).unwrap_or_default()
}

/// Returns what is to be printed.
fn act(process: &Process, request: &Request<'_>, program: &CStr) -> Result<String, Fault> {
    let kernel = |errno| Fault::Kernel(program.into(), errno);
    let file = OpenFile::open(program, Access::Read).map_err(kernel)?;
    let facts = file::facts(file.fd()).map_err(kernel)?;
    let view = View::of(file.fd()).map_err(kernel)?;
    match request.action {
        Action::Print => Ok(printed(view.bytes())?),
        Action::Restore => write(&interp_note::restore(view.bytes())?, request, &facts),
        Action::Set => {
            if facts.mode & (S_ISUID | S_ISGID) != 0 || file::grants_capabilities(file.fd()) {
                return Err(Fault::Privileged);
            }
            let loader = request.loader.map_or_else(|| own_file(process).into(), string);
            let options: Vec<CString> = request.options.iter().copied().map(string).collect();
            let options: Vec<&CStr> = options.iter().map(CString::as_c_str).collect();
            write(&interp_note::set(view.bytes(), &loader, &options)?, request, &facts)
        }
    }
}

fn printed(file: &[u8]) -> Result<String, Refusal> {
    let image = Image::parse(file).map_err(Refusal::Image)?;
    let record = Record::of(&image).ok_or(Refusal::NotSet)?;
    let options: Vec<String> = record.options().map(shown).collect();
    Ok(alloc::format!(
        "loader: {}\ninterpreter: {}\noptions: {}\n",
        shown(record.loader),
        shown(record.interpreter),
        options.join(" ")
    ))
}

/// Writes the file under another name and gives it its own when it is whole: it may be the program itself, and running.
fn write(bytes: &[u8], request: &Request<'_>, facts: &Facts) -> Result<String, Fault> {
    let path = string(request.output);
    let draft = string(&[request.output, alloc::format!(".{}", ids::id()).as_bytes()].concat());
    let kernel = |errno| Fault::Kernel(path.clone(), errno);
    let file = OpenFile::open(&draft, Access::Create).map_err(kernel)?;
    let written = file::write_all(file.fd(), bytes)
        .and_then(|()| file.set_mode(facts.mode & 0o777))
        .and_then(|()| file::rename(&draft, &path));
    written.map_err(|errno| {
        file::remove(&draft);
        kernel(errno)
    })?;
    Ok(String::new())
}
