//! Error numbers of the kernel, with their names and the words that `strerror` has for them.
//!
//! The numbers come from the kernel's headers (`asm-generic/errno.h`); those from 512 on are its own
//! (`include/linux/errno.h`) and reach a tool only for a call that a signal interrupted.
//! `EWOULDBLOCK` and `EDEADLOCK` are other spellings of `EAGAIN` and `EDEADLK` and have no constant.
// tidy: table

use core::fmt;

use linux_raw_sys::errno as errors;

use super::packed::{Packed, join, total_len};

/// An error number, 1 to 4095. Not an enum: the kernel may return numbers that no list here knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Errno(pub u16);

impl Errno {
    /// The name in the kernel's headers, such as `ENOENT`.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.get(self.row()?)
    }

    /// What it means in a few words, as `strerror` says it; `Unknown error` for a number not listed.
    #[must_use]
    pub fn message(self) -> &'static str {
        self.row().and_then(|row| MESSAGES.get(row)).unwrap_or("Unknown error")
    }

    /// Whether it tells that a signal interrupted the call and the kernel is to restart it or report `EINTR`.
    #[must_use]
    pub const fn is_restart(self) -> bool {
        matches!(
            self,
            Self::ERESTARTSYS | Self::ERESTARTNOINTR | Self::ERESTARTNOHAND | Self::ERESTART_RESTARTBLOCK
        )
    }

    fn row(self) -> Option<usize> {
        NUMBERS.binary_search(&self.0).ok()
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.row() {
            Some(_) => f.write_str(self.message()),
            None => write!(f, "Unknown error {}", self.0),
        }
    }
}

/// Declares the constants and, in the same order, the tables behind [`Errno::name`] and [`Errno::message`].
macro_rules! errors {
    ($($name:ident = $number:expr, $message:literal;)*) => {
        impl Errno {
            $(
                #[doc = concat!($message, ".")]
                pub const $name: Self = Self($number as u16);
            )*
        }
        const COUNT: usize = [$($message),*].len();
        static NUMBERS: [u16; COUNT] = [$(Errno::$name.0),*];
        const NAME_PARTS: [&str; COUNT] = [$(stringify!($name)),*];
        const MESSAGE_PARTS: [&str; COUNT] = [$($message),*];
    };
}

static JOINED_NAMES: [u8; total_len(&NAME_PARTS)] = join(&NAME_PARTS);
static JOINED_MESSAGES: [u8; total_len(&MESSAGE_PARTS)] = join(&MESSAGE_PARTS);
static NAMES: Packed<COUNT> = Packed::new(&NAME_PARTS, &JOINED_NAMES);
static MESSAGES: Packed<COUNT> = Packed::new(&MESSAGE_PARTS, &JOINED_MESSAGES);

// Ascending: `row` searches by halves.
errors! {
    EPERM = errors::EPERM, "Operation not permitted";
    ENOENT = errors::ENOENT, "No such file or directory";
    ESRCH = errors::ESRCH, "No such process";
    EINTR = errors::EINTR, "Interrupted system call";
    EIO = errors::EIO, "Input/output error";
    ENXIO = errors::ENXIO, "No such device or address";
    E2BIG = errors::E2BIG, "Argument list too long";
    ENOEXEC = errors::ENOEXEC, "Exec format error";
    EBADF = errors::EBADF, "Bad file descriptor";
    ECHILD = errors::ECHILD, "No child processes";
    EAGAIN = errors::EAGAIN, "Resource temporarily unavailable";
    ENOMEM = errors::ENOMEM, "Cannot allocate memory";
    EACCES = errors::EACCES, "Permission denied";
    EFAULT = errors::EFAULT, "Bad address";
    ENOTBLK = errors::ENOTBLK, "Block device required";
    EBUSY = errors::EBUSY, "Device or resource busy";
    EEXIST = errors::EEXIST, "File exists";
    EXDEV = errors::EXDEV, "Invalid cross-device link";
    ENODEV = errors::ENODEV, "No such device";
    ENOTDIR = errors::ENOTDIR, "Not a directory";
    EISDIR = errors::EISDIR, "Is a directory";
    EINVAL = errors::EINVAL, "Invalid argument";
    ENFILE = errors::ENFILE, "Too many open files in system";
    EMFILE = errors::EMFILE, "Too many open files";
    ENOTTY = errors::ENOTTY, "Inappropriate ioctl for device";
    ETXTBSY = errors::ETXTBSY, "Text file busy";
    EFBIG = errors::EFBIG, "File too large";
    ENOSPC = errors::ENOSPC, "No space left on device";
    ESPIPE = errors::ESPIPE, "Illegal seek";
    EROFS = errors::EROFS, "Read-only file system";
    EMLINK = errors::EMLINK, "Too many links";
    EPIPE = errors::EPIPE, "Broken pipe";
    EDOM = errors::EDOM, "Numerical argument out of domain";
    ERANGE = errors::ERANGE, "Numerical result out of range";
    EDEADLK = errors::EDEADLK, "Resource deadlock avoided";
    ENAMETOOLONG = errors::ENAMETOOLONG, "File name too long";
    ENOLCK = errors::ENOLCK, "No locks available";
    ENOSYS = errors::ENOSYS, "Function not implemented";
    ENOTEMPTY = errors::ENOTEMPTY, "Directory not empty";
    ELOOP = errors::ELOOP, "Too many levels of symbolic links";
    ENOMSG = errors::ENOMSG, "No message of desired type";
    EIDRM = errors::EIDRM, "Identifier removed";
    ECHRNG = errors::ECHRNG, "Channel number out of range";
    EL2NSYNC = errors::EL2NSYNC, "Level 2 not synchronized";
    EL3HLT = errors::EL3HLT, "Level 3 halted";
    EL3RST = errors::EL3RST, "Level 3 reset";
    ELNRNG = errors::ELNRNG, "Link number out of range";
    EUNATCH = errors::EUNATCH, "Protocol driver not attached";
    ENOCSI = errors::ENOCSI, "No CSI structure available";
    EL2HLT = errors::EL2HLT, "Level 2 halted";
    EBADE = errors::EBADE, "Invalid exchange";
    EBADR = errors::EBADR, "Invalid request descriptor";
    EXFULL = errors::EXFULL, "Exchange full";
    ENOANO = errors::ENOANO, "No anode";
    EBADRQC = errors::EBADRQC, "Invalid request code";
    EBADSLT = errors::EBADSLT, "Invalid slot";
    EBFONT = errors::EBFONT, "Bad font file format";
    ENOSTR = errors::ENOSTR, "Device not a stream";
    ENODATA = errors::ENODATA, "No data available";
    ETIME = errors::ETIME, "Timer expired";
    ENOSR = errors::ENOSR, "Out of streams resources";
    ENONET = errors::ENONET, "Machine is not on the network";
    ENOPKG = errors::ENOPKG, "Package not installed";
    EREMOTE = errors::EREMOTE, "Object is remote";
    ENOLINK = errors::ENOLINK, "Link has been severed";
    EADV = errors::EADV, "Advertise error";
    ESRMNT = errors::ESRMNT, "Srmount error";
    ECOMM = errors::ECOMM, "Communication error on send";
    EPROTO = errors::EPROTO, "Protocol error";
    EMULTIHOP = errors::EMULTIHOP, "Multihop attempted";
    EDOTDOT = errors::EDOTDOT, "RFS specific error";
    EBADMSG = errors::EBADMSG, "Bad message";
    EOVERFLOW = errors::EOVERFLOW, "Value too large for defined data type";
    ENOTUNIQ = errors::ENOTUNIQ, "Name not unique on network";
    EBADFD = errors::EBADFD, "File descriptor in bad state";
    EREMCHG = errors::EREMCHG, "Remote address changed";
    ELIBACC = errors::ELIBACC, "Can not access a needed shared library";
    ELIBBAD = errors::ELIBBAD, "Accessing a corrupted shared library";
    ELIBSCN = errors::ELIBSCN, ".lib section in a.out corrupted";
    ELIBMAX = errors::ELIBMAX, "Attempting to link in too many shared libraries";
    ELIBEXEC = errors::ELIBEXEC, "Cannot exec a shared library directly";
    EILSEQ = errors::EILSEQ, "Invalid or incomplete multibyte or wide character";
    ERESTART = errors::ERESTART, "Interrupted system call should be restarted";
    ESTRPIPE = errors::ESTRPIPE, "Streams pipe error";
    EUSERS = errors::EUSERS, "Too many users";
    ENOTSOCK = errors::ENOTSOCK, "Socket operation on non-socket";
    EDESTADDRREQ = errors::EDESTADDRREQ, "Destination address required";
    EMSGSIZE = errors::EMSGSIZE, "Message too long";
    EPROTOTYPE = errors::EPROTOTYPE, "Protocol wrong type for socket";
    ENOPROTOOPT = errors::ENOPROTOOPT, "Protocol not available";
    EPROTONOSUPPORT = errors::EPROTONOSUPPORT, "Protocol not supported";
    ESOCKTNOSUPPORT = errors::ESOCKTNOSUPPORT, "Socket type not supported";
    EOPNOTSUPP = errors::EOPNOTSUPP, "Operation not supported";
    EPFNOSUPPORT = errors::EPFNOSUPPORT, "Protocol family not supported";
    EAFNOSUPPORT = errors::EAFNOSUPPORT, "Address family not supported by protocol";
    EADDRINUSE = errors::EADDRINUSE, "Address already in use";
    EADDRNOTAVAIL = errors::EADDRNOTAVAIL, "Cannot assign requested address";
    ENETDOWN = errors::ENETDOWN, "Network is down";
    ENETUNREACH = errors::ENETUNREACH, "Network is unreachable";
    ENETRESET = errors::ENETRESET, "Network dropped connection on reset";
    ECONNABORTED = errors::ECONNABORTED, "Software caused connection abort";
    ECONNRESET = errors::ECONNRESET, "Connection reset by peer";
    ENOBUFS = errors::ENOBUFS, "No buffer space available";
    EISCONN = errors::EISCONN, "Transport endpoint is already connected";
    ENOTCONN = errors::ENOTCONN, "Transport endpoint is not connected";
    ESHUTDOWN = errors::ESHUTDOWN, "Cannot send after transport endpoint shutdown";
    ETOOMANYREFS = errors::ETOOMANYREFS, "Too many references: cannot splice";
    ETIMEDOUT = errors::ETIMEDOUT, "Connection timed out";
    ECONNREFUSED = errors::ECONNREFUSED, "Connection refused";
    EHOSTDOWN = errors::EHOSTDOWN, "Host is down";
    EHOSTUNREACH = errors::EHOSTUNREACH, "No route to host";
    EALREADY = errors::EALREADY, "Operation already in progress";
    EINPROGRESS = errors::EINPROGRESS, "Operation now in progress";
    ESTALE = errors::ESTALE, "Stale file handle";
    EUCLEAN = errors::EUCLEAN, "Structure needs cleaning";
    ENOTNAM = errors::ENOTNAM, "Not a XENIX named type file";
    ENAVAIL = errors::ENAVAIL, "No XENIX semaphores available";
    EISNAM = errors::EISNAM, "Is a named type file";
    EREMOTEIO = errors::EREMOTEIO, "Remote I/O error";
    EDQUOT = errors::EDQUOT, "Disk quota exceeded";
    ENOMEDIUM = errors::ENOMEDIUM, "No medium found";
    EMEDIUMTYPE = errors::EMEDIUMTYPE, "Wrong medium type";
    ECANCELED = errors::ECANCELED, "Operation canceled";
    ENOKEY = errors::ENOKEY, "Required key not available";
    EKEYEXPIRED = errors::EKEYEXPIRED, "Key has expired";
    EKEYREVOKED = errors::EKEYREVOKED, "Key has been revoked";
    EKEYREJECTED = errors::EKEYREJECTED, "Key was rejected by service";
    EOWNERDEAD = errors::EOWNERDEAD, "Owner died";
    ENOTRECOVERABLE = errors::ENOTRECOVERABLE, "State not recoverable";
    ERFKILL = errors::ERFKILL, "Operation not possible due to RF-kill";
    EHWPOISON = errors::EHWPOISON, "Memory page has hardware error";
    ERESTARTSYS = 512, "To be restarted if SA_RESTART is set";
    ERESTARTNOINTR = 513, "To be restarted";
    ERESTARTNOHAND = 514, "To be restarted if no handler";
    ERESTART_RESTARTBLOCK = 516, "Interrupted by signal";
    ENOTSUPP = 524, "Operation is not supported";
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn the_numbers_ascend_so_that_a_search_by_halves_finds_each() {
        assert!(NUMBERS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn names_and_messages_are_those_of_the_number() {
        assert_eq!(Errno::ENOENT.name(), Some("ENOENT"));
        assert_eq!(Errno::ENOEXEC.message(), "Exec format error");
        assert_eq!(Errno::EHWPOISON.name(), Some("EHWPOISON"));
        assert_eq!(Errno(41).name(), None);
        assert_eq!(Errno(4095).message(), "Unknown error");
        assert_eq!(Errno(4095).to_string(), "Unknown error 4095");
    }

    #[test]
    fn messages_agree_with_the_c_library() {
        for (row, &number) in NUMBERS.iter().enumerate().filter(|&(_, &number)| number < 512) {
            let theirs = std::io::Error::from_raw_os_error(i32::from(number)).to_string();
            let ours = MESSAGES.get(row).unwrap();
            assert_eq!(theirs.split(" (os error").next(), Some(ours), "errno {number}");
        }
    }

    #[test]
    fn only_the_restart_codes_are_restarts() {
        let restarts: std::vec::Vec<u16> = (0..4096).filter(|&number| Errno(number).is_restart()).collect();
        assert_eq!(restarts, [512, 513, 514, 516]);
    }
}
