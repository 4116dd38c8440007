//! The command line, acted on: picks the tools, finds the program, starts it. Zone: load.

use crate::addr::GuestAddr;
use crate::hook::chain::{Chain, Member};
use crate::launch::{self, Failure};
use crate::load::Process;
use crate::options::{self, Options, Parsed};
use crate::runtime;
use crate::runtime::output::Output;
use crate::runtime::state::Frozen;
use crate::sys::line::Line;
use crate::sys::process::Status;
use crate::sys::{file, mem, process};
use crate::tools::empty::Empty;
use crate::tools::summary::{Counts, Summary};
use crate::tools::trace::Trace;
use alloc::boxed::Box;
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use core::fmt::Write;

/// The loader's life before the program's.
pub fn main(process: &Process) -> ! {
    let words = process.args.iter().skip(1).map(|word| word.to_bytes());
    match options::parse(words) {
        Err(error) => complain(Status::Usage, format_args!("{error} (try --help)")),
        Ok(Parsed::Help) => say(format_args!("{}", options::Help)),
        Ok(Parsed::Version) => say(format_args!("{}\n", options::VERSION)),
        Ok(Parsed::Run(options)) => run(process, &options),
    }
}

fn run(process: &Process, options: &Options<'_>) -> ! {
    let args = process.args.get(1 + options.program_index..).unwrap_or_default();
    let Some(&name) = args.first() else { complain(Status::Usage, format_args!("no program to run")) };
    let output = match output(options) {
        Ok(output) => output,
        Err((path, errno)) => complain(Status::Usage, format_args!("{}: {errno}", path.to_string_lossy())),
    };
    let found =
        launch::find(name, args, process.variable(b"PATH")).unwrap_or_else(|failure| refuse(&failure));
    let frozen = Frozen {
        tools: tools(options),
        output,
        program: kept(found.exe()),
        loader: kept(own_file()),
        root: process::id(),
    };
    if let Err(errno) = runtime::set_up(process, frozen) {
        complain(Status::Internal, format_args!("no memory for the gate: {errno}"));
    }
    match launch::start(found, process) {
        Err(failure) => refuse(&failure),
        Ok(never) => match never {},
    }
}

/// The tools that the options ask for.
fn tools(options: &Options<'_>) -> Chain<'static> {
    let mut members: Vec<Member<'static>> = Vec::new();
    if options.summary {
        members.push(Member::new(Box::leak(Box::new(Summary::new(shared_counts())))));
    }
    if options.trace {
        members.push(Member::new(&Trace));
    }
    if options.empty {
        members.push(Member::new(&Empty));
    }
    Chain::new(members.leak()).unwrap_or(Chain::EMPTY)
}

/// Counters that forked children count into as well.
fn shared_counts() -> &'static Counts {
    match mem::map_shared(size_of::<Counts>() as u64) {
        // SAFETY: the mapping is that long, page-aligned, zeroed (which `Counts` allows) and stays for good.
        Ok(GuestAddr(at)) => unsafe { &*core::ptr::with_exposed_provenance(at as usize) },
        Err(errno) => complain(Status::Internal, format_args!("no memory for the summary: {errno}")),
    }
}

/// Where the tools print. The file is made now, so that a bad name is an error of usage, and named by its absolute
/// path, since the program may change its directory.
fn output(options: &Options<'_>) -> Result<Output, (CString, crate::abi::errno::Errno)> {
    let Some(path) = options.output else { return Ok(Output::Stderr) };
    let typed = CString::new(path).unwrap_or_default();
    let mut absolute = Vec::new();
    if path.first() != Some(&b'/') {
        let mut buffer = [0_u8; 4096];
        match file::working_directory(&mut buffer) {
            Ok(directory) => absolute.extend_from_slice(directory),
            Err(errno) => return Err((typed, errno)),
        }
        absolute.push(b'/');
    }
    absolute.extend_from_slice(path);
    Output::create(kept(CString::new(absolute).unwrap_or_default())).map_err(|errno| (typed, errno))
}

/// A string for as long as the process.
fn kept(text: CString) -> &'static CStr {
    Box::leak(text.into_boxed_c_str())
}

fn own_file() -> CString {
    let mut buffer = [0_u8; 4096];
    file::read_link(c"/proc/self/exe", &mut buffer)
        .ok()
        .and_then(|path| CString::new(path).ok())
        .unwrap_or_default()
}

fn refuse(failure: &Failure) -> ! {
    let status = if failure.fault.is_missing() { Status::NotFound } else { Status::CannotRun };
    let program = shown(&failure.program);
    match &failure.interpreter {
        Some(interpreter) => {
            complain(status, format_args!("{program}: {}: {}", shown(interpreter), failure.fault))
        }
        None => complain(status, format_args!("{program}: {}", failure.fault)),
    }
}

/// A path as text on one line.
fn shown(path: &CStr) -> alloc::string::String {
    path.to_string_lossy().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn complain(status: Status, message: core::fmt::Arguments<'_>) -> ! {
    let mut line = Line::<4608>::new();
    // Both are cut where they don't fit.
    let _ = line.write_str("loader: ");
    let _ = line.write_fmt(message);
    let _ = line.write_str("\n");
    line.to_stderr();
    process::exit_all(status)
}

fn say(text: core::fmt::Arguments<'_>) -> ! {
    let mut page = Line::<4096>::new();
    let _ = page.write_fmt(text);
    match file::write_all(file::STDOUT, page.as_bytes()) {
        Ok(()) => process::exit_all(Status::Success),
        Err(errno) => complain(Status::Internal, format_args!("standard output: {errno}")),
    }
}
