//! Whether a program that is about to be exec'd can run under the loader. Zone: call.
//!
//! An exec has a point of no return behind which nobody can be told of an error. So everything that the kernel would
//! find wrong is looked for before the loader is exec'd in the program's place, in the kernel's order (fs/exec.c,
//! fs/binfmt_script.c, fs/binfmt_elf.c). What is wrong exactly does not matter here: such an exec is made natively,
//! and the kernel says it in its own words, or kills where it would. Nothing is kept, allocated or locked, since this
//! also runs in the memory of a parent that waits in `vfork`.

use crate::abi::errno::Errno;
use crate::abi::open::{
    AT_EMPTY_PATH, AT_EXECVE_CHECK, AT_FDCWD, AT_SYMLINK_NOFOLLOW, S_ISGID_EXECUTABLE, S_ISUID,
};
use crate::abi::sysno;
use crate::elf::image::Image;
use crate::exec::script;
use crate::runtime::session::Session;
use crate::runtime::session::not_followed::Reason;
use crate::sys::fd::Fd;
use crate::sys::file::{self, Access, Facts, OpenFile, Place};
use crate::sys::line::Line;
use crate::sys::process;
use crate::sys::view::View;
use core::ffi::CStr;
use core::fmt::Write;

/// What `execve` and `execveat` are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'p> {
    /// The program's file; `place.path` may be empty.
    pub place: Place<'p>,
    /// The address of the arguments' vector.
    pub argv: u64,
    /// The address of the environment's vector.
    pub envp: u64,
    /// The program that is meant where the path leads to the loader: that of a process.
    pub behind: Option<&'p CStr>,
}

impl Request<'_> {
    /// Whether a descriptor is where the path starts, so that the kernel names the file `/dev/fd/…`.
    #[must_use]
    pub(crate) fn starts_at_descriptor(&self) -> bool {
        self.place.directory as u32 != AT_FDCWD as u32 && self.place.path.to_bytes().first() != Some(&b'/')
    }

    /// Whether the path means the same file to the program that is exec'd.
    fn is_found_again(&self) -> bool {
        let path = self.place.path.to_bytes();
        let is_magic = path.starts_with(b"/proc/") || path.starts_with(b"/dev/fd/");
        !is_magic && !self.starts_at_descriptor()
    }
}

/// What becomes of an exec.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// The loader takes over; with a descriptor of the file where its path does not lead to it again.
    Follow(Option<OpenFile>),
    /// The kernel would run it, and only the kernel can.
    Native(Reason),
    /// The kernel knows better what is to be said.
    Refused,
}

impl From<Errno> for Judgement {
    fn from(_: Errno) -> Self {
        Self::Refused
    }
}

/// Looks at the file and at all that it needs to run.
pub(crate) fn judge(request: &Request<'_>, session: &Session) -> Judgement {
    match examine(request, session) {
        Ok(file) => Judgement::Follow(file),
        Err(judgement) => judgement,
    }
}

fn examine(request: &Request<'_>, session: &Session) -> Result<Option<OpenFile>, Judgement> {
    if request.place.flags & !(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0 {
        return Err(Judgement::Refused);
    }
    if tracer().is_some_and(|tracer| is_loaded(tracer, session)) {
        return Err(Judgement::Native(Reason::Traced));
    }
    let first = Request { place: request.behind.map_or(request.place, Place::of), ..*request };
    is_permitted(&first)?;
    let file = open(&first.place)?;
    let facts = file::facts(file.fd())?;
    if !facts.is_regular() {
        return Err(Judgement::Refused);
    }
    if session.own == Some(facts.identity) {
        return Err(Judgement::Native(Reason::Loader)); // each does its own work
    }
    let closes =
        first.starts_at_descriptor() && file::closes_at_exec(Fd::from_argument(first.place.directory));
    follow_scripts(&file, facts, closes, &first)?;
    let is_found_again = request.behind.is_none() && request.is_found_again();
    Ok((!is_found_again).then_some(file))
}

/// The process that traces the calling thread, by its number in `/proc`.
fn tracer() -> Option<u32> {
    let status = OpenFile::open(c"/proc/thread-self/status", Access::Read).ok()?;
    let mut buffer = [0; 512]; // it is the eighth line
    let len = file::read(status.fd(), &mut buffer).ok()?;
    let mut lines = buffer.get(..len)?.split(|&byte| byte == b'\n');
    let number = lines.find_map(|line| line.strip_prefix(b"TracerPid:\t"))?;
    core::str::from_utf8(number).ok()?.parse().ok().filter(|&tracer| tracer != 0)
}

/// Whether a process runs under the loader: one that is out of sight does not.
fn is_loaded(process: u32, session: &Session) -> bool {
    let mut link = Line::<32>::new();
    let _ = write!(link, "/proc/{process}/exe\0");
    let link = CStr::from_bytes_with_nul(link.as_bytes()).unwrap_or_default();
    file::facts_at(link).is_ok_and(|facts| session.own == Some(facts.identity))
}

/// The kernel's own judgement on path, file and arguments, where it gives one; else on the file's rights alone.
fn is_permitted(request: &Request<'_>) -> Result<(), Judgement> {
    let Request { place, argv, envp, .. } = *request;
    let path = place.path.as_ptr().expose_provenance() as u64;
    let flags = place.flags | AT_EXECVE_CHECK;
    match process::execute(sysno::EXECVEAT, [place.directory, path, argv, envp, flags, 0]) {
        None => Ok(()),
        Some(Errno::EINVAL | Errno::ENOSYS) => Ok(file::may_execute(&place)?),
        Some(_) => Err(Judgement::Refused),
    }
}

/// Opens a file that may be executed. One that can't be read can only be run by the kernel.
fn open(place: &Place<'_>) -> Result<OpenFile, Judgement> {
    let opened = if place.path.is_empty() {
        let fd = Fd::from_argument(place.directory);
        let mut link = Line::<32>::new();
        let _ = write!(link, "/proc/self/fd/{}\0", fd.number());
        let link = CStr::from_bytes_with_nul(link.as_bytes()).unwrap_or_default();
        // Without /proc a copy serves, if the descriptor is one that can be read from.
        OpenFile::open_program(&Place::of(link)).or_else(|_| OpenFile::copy_of(fd))
    } else {
        OpenFile::open_program(place)
    };
    opened.map_err(|errno| {
        if errno == Errno::EACCES { Judgement::Native(Reason::Unreadable) } else { Judgement::Refused }
    })
}

/// Goes from script to interpreter until a program comes. `closes` says that the first file's name, being that of a
/// descriptor, leads nowhere once the exec has closed it (fs/binfmt_script.c).
fn follow_scripts(
    file: &OpenFile,
    facts: Facts,
    closes: bool,
    request: &Request<'_>,
) -> Result<(), Judgement> {
    let mut view = View::of(file.fd())?;
    let mut opened: Option<OpenFile> = None;
    let mut facts = facts;
    for _ in 0..=script::NESTING_MAX {
        let head = view.bytes().get(..script::HEAD_LEN).unwrap_or(view.bytes());
        let Some(shebang) = script::parse(head).map_err(|error| error.errno())? else {
            let fd = opened.as_ref().map_or(file.fd(), OpenFile::fd);
            return check_program(fd, &facts, &view, request);
        };
        if closes {
            return Err(Judgement::Refused);
        }
        let mut name = Line::<{ script::HEAD_LEN + 1 }>::new();
        name.push(shebang.interpreter);
        name.push(b"\0");
        let path = CStr::from_bytes_with_nul(name.as_bytes()).map_err(|_| Judgement::Refused)?;
        let next = open_interpreter(path, request)?;
        facts = file::facts(next.fd())?;
        view = View::of(next.fd())?;
        opened = Some(next);
    }
    Err(Judgement::Refused)
}

fn open_interpreter(path: &CStr, request: &Request<'_>) -> Result<OpenFile, Judgement> {
    let place = Place::of(path);
    is_permitted(&Request { place, ..*request })?;
    let opened = open(&place)?;
    if file::facts(opened.fd())?.is_regular() { Ok(opened) } else { Err(Judgement::Refused) }
}

fn check_program(fd: Fd, facts: &Facts, view: &View, request: &Request<'_>) -> Result<(), Judgement> {
    let interpreter = Image::check(view.bytes()).map_err(|error| {
        if error.is_32_bit() { Judgement::Native(Reason::Class32) } else { Judgement::Refused }
    })?;
    if gains_privileges(fd, facts) {
        return Err(Judgement::Native(Reason::Privileged));
    }
    if let Some(path) = interpreter {
        let opened = open_interpreter(path, request)?;
        let view = View::of(opened.fd())?;
        Image::check_interpreter(view.bytes()).map_err(|_| Judgement::Refused)?;
    }
    Ok(())
}

/// Whether the kernel would give the program rights that its caller does not have: such rights are the file's, and the
/// loader's file has none (fs/exec.c, `bprm_fill_uid`; security/commoncap.c, `cap_bprm_creds_from_file`).
fn gains_privileges(fd: Fd, facts: &Facts) -> bool {
    let ids = process::ids();
    let becomes_user = facts.mode & S_ISUID != 0 && facts.user != ids.effective_user;
    let is_group_set = facts.mode & S_ISGID_EXECUTABLE == S_ISGID_EXECUTABLE;
    let becomes_group = is_group_set && facts.group != ids.effective_group;
    let is_root = ids.user == 0 && ids.effective_user == 0; // has all that a file could grant
    let gains = becomes_user || becomes_group || !is_root && file::grants_capabilities(fd);
    gains && file::honours_set_id(fd) && !process::has_no_new_privileges()
}
