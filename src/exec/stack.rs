//! The initial stack of a program, byte for byte as `execve` leaves it.
//!
//! From the top down (`bprm_mm_init`, `do_execveat_common` in fs/exec.c, then `create_elf_tables` in
//! fs/binfmt_elf.c): eight zero bytes, the program's path, the environment's strings, the arguments'
//! strings, a gap to a multiple of 16, the platform's names, 16 random bytes, a gap, the auxiliary vector,
//! `envp`, `argv`, `argc`. Programs rely on more of this than the psABI promises: who changes his title in
//! `ps` overwrites arguments and environment as one piece, and everyone finds the auxiliary vector by
//! walking past the null of `envp`.
//!
//! Nothing is random here but the bytes handed in: the kernel shuffles the gap, a caller shuffles `top`.

use alloc::vec::Vec;
use core::ffi::CStr;

use crate::abi::auxv::{AuxEntry, AuxKind};
use crate::addr::{AddrRange, GuestAddr};

/// The zero bytes that the kernel leaves at the very top (`bprm_mm_init`).
const TOP_GAP: u64 = size_of::<u64>() as u64;
/// The size of a pointer or number on the stack in bytes.
const WORD: u64 = size_of::<u64>() as u64;
/// The alignment of the stack pointer at entry in bytes (psABI 3.4.1).
const STACK_ALIGN: u64 = 16;

/// What a program finds on its stack.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contents<'a> {
    /// The arguments; if there are none the program gets one empty argument (`do_execveat_common` since
    /// Linux 5.18).
    pub args: &'a [&'a CStr],
    /// The environment, order kept.
    pub env: &'a [&'a CStr],
    /// What `AT_EXECFN` points to: the path as it was passed to `execve`.
    pub path: &'a CStr,
    /// What `AT_PLATFORM` points to.
    pub platform: Option<&'a CStr>,
    /// What `AT_BASE_PLATFORM` points to.
    pub base_platform: Option<&'a CStr>,
    /// What `AT_RANDOM` points to.
    pub random: [u8; 16],
    /// The auxiliary vector up to its first `AT_NULL`, which may be missing; order kept.
    ///
    /// The four kinds above get their value here, and become `AT_IGNORE` where there is nothing to point to;
    /// all others, known or not, are handed on as they are.
    pub auxv: &'a [AuxEntry],
}

/// A stack ready to be copied to its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InitialStack {
    /// What the stack pointer is at entry; a multiple of 16.
    pub sp: GuestAddr,
    /// The bytes from `sp` up to the top.
    pub bytes: Vec<u8>,
    /// The strings of the arguments: `arg_start` to `arg_end` of the kernel's `mm_struct`.
    pub args: AddrRange,
    /// The strings of the environment: `env_start` to `env_end`; starts where `args` ends.
    pub env: AddrRange,
    /// The auxiliary vector, its `AT_NULL` included.
    pub auxv: AddrRange,
}

impl Contents<'_> {
    /// Builds the stack that ends just below `top`, or `None` if so much does not fit between address 0 and
    /// `top`.
    #[must_use]
    pub(crate) fn build(&self, top: GuestAddr) -> Option<InitialStack> {
        let contents = if self.args.is_empty() { Self { args: &[c""], ..*self } } else { *self };
        let places = contents.place(top)?;
        let bytes = contents.write(&places)?;
        let range = |start, end| AddrRange::new(GuestAddr(start), GuestAddr(end));
        Some(InitialStack {
            sp: GuestAddr(places.sp),
            bytes,
            args: range(places.args, places.env),
            env: range(places.env, places.path),
            auxv: range(places.auxv, places.auxv_end),
        })
    }

    fn entries(&self) -> impl Iterator<Item = &AuxEntry> {
        self.auxv.iter().take_while(|entry| entry.kind != AuxKind::NULL)
    }

    fn place(&self, top: GuestAddr) -> Option<Places> {
        let path = below(top.0.checked_sub(TOP_GAP)?, self.path)?;
        let env = self.env.iter().try_fold(path, |at, string| below(at, string))?;
        let args = self.args.iter().try_fold(env, |at, string| below(at, string))?;
        let platform =
            self.platform.iter().try_fold(args & !(STACK_ALIGN - 1), |at, name| below(at, name))?;
        let base_platform = self.base_platform.iter().try_fold(platform, |at, name| below(at, name))?;
        let random = base_platform.checked_sub(self.random.len() as u64)?;

        let auxv_len = (self.entries().count() as u64).checked_add(1)?.checked_mul(AuxEntry::LEN as u64)?;
        // argc and the nulls that end argv and envp.
        let words = (self.args.len() as u64).checked_add(self.env.len() as u64)?.checked_add(3)?;
        let vectors_len = words.checked_mul(WORD)?;
        let sp = random.checked_sub(auxv_len)?.checked_sub(vectors_len)? & !(STACK_ALIGN - 1);
        let auxv = sp.checked_add(vectors_len)?;
        let auxv_end = auxv.checked_add(auxv_len)?;
        Some(Places { top: top.0, path, env, args, platform, base_platform, random, auxv_end, auxv, sp })
    }

    fn write(&self, places: &Places) -> Option<Vec<u8>> {
        let mut out = Ascending::new(places.sp, places.top)?;
        out.word(self.args.len() as u64);
        out.pointers(places.args, self.args);
        out.pointers(places.env, self.env);
        for entry in self.entries() {
            out.entry(places.resolve(entry, self));
        }
        out.entry(AuxEntry::END);
        out.skip_to(places.random)?;
        out.bytes.extend_from_slice(&self.random);
        out.strings(self.base_platform.as_slice());
        out.strings(self.platform.as_slice());
        out.skip_to(places.args)?;
        out.strings(self.args);
        out.strings(self.env);
        out.strings(&[self.path]);
        out.skip_to(places.top)?;
        Some(out.bytes)
    }
}

/// The addresses of all parts, from the top down.
#[derive(Clone, Copy, Debug)]
struct Places {
    top: u64,
    path: u64,
    env: u64,
    args: u64,
    platform: u64,
    base_platform: u64,
    random: u64,
    auxv_end: u64,
    auxv: u64,
    sp: u64,
}

impl Places {
    /// The entry with the value that it has on this stack.
    fn resolve(&self, entry: &AuxEntry, contents: &Contents<'_>) -> AuxEntry {
        let value = match entry.kind {
            AuxKind::RANDOM => Some(self.random),
            AuxKind::EXECFN => Some(self.path),
            AuxKind::PLATFORM => contents.platform.map(|_| self.platform),
            AuxKind::BASE_PLATFORM => contents.base_platform.map(|_| self.base_platform),
            _ => return *entry,
        };
        // An entry taken out would move the ones behind it; what is ignored stays in place.
        match value {
            Some(value) => AuxEntry { kind: entry.kind, value },
            None => AuxEntry { kind: AuxKind::IGNORE, value: 0 },
        }
    }
}

/// Bytes written from the stack pointer up.
struct Ascending {
    start: u64,
    bytes: Vec<u8>,
}

impl Ascending {
    fn new(start: u64, end: u64) -> Option<Self> {
        let len = usize::try_from(end.checked_sub(start)?).ok()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        Some(Self { start, bytes })
    }

    fn word(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn entry(&mut self, entry: AuxEntry) {
        self.word(entry.kind.0);
        self.word(entry.value);
    }

    /// Pointers to strings that lie one behind the other from `at` on, and the null that ends them.
    fn pointers(&mut self, at: u64, strings: &[&CStr]) {
        let mut next = at;
        for string in strings {
            self.word(next);
            next = next.wrapping_add(string.to_bytes_with_nul().len() as u64);
        }
        self.word(0);
    }

    fn strings(&mut self, strings: &[&CStr]) {
        for string in strings {
            self.bytes.extend_from_slice(string.to_bytes_with_nul());
        }
    }

    /// Fills with zero bytes up to `at`.
    fn skip_to(&mut self, at: u64) -> Option<()> {
        let len = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.bytes.resize(len, 0);
        Some(())
    }
}

/// Where `string` starts if it ends just below `at`.
fn below(at: u64, string: &CStr) -> Option<u64> {
    at.checked_sub(string.to_bytes_with_nul().len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::CString;
    use std::os::unix::fs::FileExt;

    const TOP: GuestAddr = GuestAddr(0x7fff_ffff_f000);

    /// Reads a built stack the way a program does.
    struct Reader<'s>(&'s InitialStack);

    impl Reader<'_> {
        fn word(&self, at: u64) -> u64 {
            let offset = usize::try_from(at - self.0.sp.0).unwrap();
            u64::from_le_bytes(*self.0.bytes[offset..].first_chunk().unwrap())
        }

        fn string(&self, at: u64) -> &CStr {
            let offset = usize::try_from(at - self.0.sp.0).unwrap();
            CStr::from_bytes_until_nul(&self.0.bytes[offset..]).unwrap()
        }

        /// The words from `at` up to a zero, and the address past it.
        fn vector(&self, at: u64) -> (Vec<u64>, u64) {
            let words: Vec<u64> =
                (0..).map(|i| self.word(at + i * WORD)).take_while(|&word| word != 0).collect();
            let end = at + (words.len() as u64 + 1) * WORD;
            (words, end)
        }

        fn entries(&self, at: u64) -> Vec<AuxEntry> {
            let entry = |at| AuxEntry { kind: AuxKind(self.word(at)), value: self.word(at + WORD) };
            (0..).map(|i| entry(at + i * 16)).take_while(|&entry| entry != AuxEntry::END).collect()
        }
    }

    /// The stack of the running test, as the kernel made it.
    struct NativeStack {
        sp: u64,
        top: u64,
        arg_start: u64,
        arg_end: u64,
        env_end: u64,
        auxv: Vec<AuxEntry>,
        bytes: Vec<u8>,
    }

    impl NativeStack {
        fn read() -> Self {
            let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
            // proc_pid_stat(5) numbers fields from 1; the third follows the name in parentheses.
            let (_, fields) = stat.rsplit_once(") ").unwrap();
            let field = |number: usize| fields.split(' ').nth(number - 3).unwrap().parse::<u64>().unwrap();
            let (sp, arg_start, arg_end, env_end) = (field(28), field(48), field(49), field(51));
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            let (range, _) =
                maps.lines().find(|line| line.ends_with("[stack]")).unwrap().split_once(' ').unwrap();
            let top = u64::from_str_radix(range.split_once('-').unwrap().1, 16).unwrap();
            let mut bytes = std::vec![0; usize::try_from(top - sp).unwrap()];
            std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, sp).unwrap();
            let mut native = Self { sp, top, arg_start, arg_end, env_end, auxv: Vec::new(), bytes };
            native.auxv = Reader(&native.as_built()).entries(native.auxv_start());
            native
        }

        fn as_built(&self) -> InitialStack {
            let none = AddrRange::new(GuestAddr(0), GuestAddr(0));
            InitialStack {
                sp: GuestAddr(self.sp),
                bytes: self.bytes.clone(),
                args: none,
                env: none,
                auxv: none,
            }
        }

        fn auxv_start(&self) -> u64 {
            let stack = self.as_built();
            let (_, envp) = Reader(&stack).vector(self.sp + WORD);
            Reader(&stack).vector(envp).1
        }

        fn between(&self, start: u64, end: u64) -> &[u8] {
            let offset = |at: u64| usize::try_from(at - self.sp).unwrap();
            &self.bytes[offset(start)..offset(end)]
        }

        fn string(&self, at: u64) -> &CStr {
            CStr::from_bytes_until_nul(self.between(at, self.top)).unwrap()
        }
    }

    fn contents<'a>(args: &'a [&'a CStr], env: &'a [&'a CStr], auxv: &'a [AuxEntry]) -> Contents<'a> {
        let platform = Some(c"x86_64");
        Contents { args, env, path: c"./program", platform, base_platform: None, random: [0xa5; 16], auxv }
    }

    fn borrow(strings: &[CString]) -> Vec<&CStr> {
        strings.iter().map(|string| &**string).collect()
    }

    fn entry(kind: AuxKind, value: u64) -> AuxEntry {
        AuxEntry { kind, value }
    }

    #[test]
    fn strings_lie_as_the_kernel_lays_them() {
        let stack = contents(&[c"a", c"bc"], &[c"X=1", c"Y="], &[]).build(TOP).unwrap();
        assert!(stack.bytes.ends_with(b"a\0bc\0X=1\0Y=\0./program\0\0\0\0\0\0\0\0\0"));
        assert_eq!(stack.sp.0 + stack.bytes.len() as u64, TOP.0);
        assert_eq!(stack.args.end, stack.env.start);
        assert_eq!((stack.args.len(), stack.env.len()), (5, 7));
    }

    #[test]
    fn entries_that_point_to_strings_point_into_the_stack() {
        let kinds =
            [AuxKind::RANDOM, AuxKind(4711), AuxKind::EXECFN, AuxKind::PLATFORM, AuxKind::BASE_PLATFORM];
        let auxv = kinds.map(|kind| entry(kind, 42));
        let stack = contents(&[c"a"], &[], &auxv).build(TOP).unwrap();
        let reader = Reader(&stack);
        let built = reader.entries(stack.auxv.start.0);
        let [random, unknown, path, platform, base_platform] = built[..] else { panic!("{built:?}") };
        assert_eq!(
            (reader.word(random.value), reader.word(random.value + 8)),
            (0xa5a5_a5a5_a5a5_a5a5, 0xa5a5_a5a5_a5a5_a5a5)
        );
        assert_eq!(unknown, entry(AuxKind(4711), 42));
        assert_eq!(reader.string(path.value), c"./program");
        assert_eq!(reader.string(platform.value), c"x86_64");
        assert_eq!(base_platform, entry(AuxKind::IGNORE, 0));
    }

    #[test]
    fn an_early_end_of_the_auxiliary_vector_is_its_end() {
        let auxv = [entry(AuxKind::PAGESZ, 4096), AuxEntry::END, entry(AuxKind::UID, 1)];
        let stack = contents(&[c"a"], &[], &auxv).build(TOP).unwrap();
        assert_eq!(Reader(&stack).entries(stack.auxv.start.0), [entry(AuxKind::PAGESZ, 4096)]);
        assert_eq!(stack.auxv.len(), 32);
    }

    #[test]
    fn a_program_without_arguments_gets_an_empty_one() {
        let stack = contents(&[], &[c"X=1"], &[]).build(TOP).unwrap();
        let reader = Reader(&stack);
        let (args, _) = reader.vector(stack.sp.0 + WORD);
        assert_eq!(reader.word(stack.sp.0), 1);
        assert_eq!(reader.string(args[0]), c"");
        assert_eq!(stack.args.len(), 1);
    }

    #[test]
    fn refuses_what_does_not_fit_below_the_top() {
        let contents = contents(&[c"a"], &[], &[]);
        let needed = contents.build(TOP).unwrap().bytes.len() as u64;
        // Two gaps for alignment, below 16 bytes each, depend on where the top lies.
        assert!((0..needed - 2 * STACK_ALIGN).all(|top| contents.build(GuestAddr(top)).is_none()));
        assert!(contents.build(GuestAddr(needed)).is_some());
    }

    /// The running test is a program that the kernel laid out: built from the same parts, its stack must be
    /// the same.
    #[test]
    fn equals_the_stack_that_the_kernel_made_for_this_process() {
        let native = NativeStack::read();
        let split = |bytes: &[u8]| -> Vec<CString> {
            let strings = bytes.split_inclusive(|&byte| byte == 0);
            strings.map(|string| CStr::from_bytes_with_nul(string).unwrap().into()).collect()
        };
        let args = split(native.between(native.arg_start, native.arg_end));
        let env = split(native.between(native.arg_end, native.env_end));
        let (args, env) = (borrow(&args), borrow(&env));
        let value = |kind| native.auxv.iter().find(|entry| entry.kind == kind).unwrap().value;
        let random = value(AuxKind::RANDOM);
        let contents = Contents {
            args: &args,
            env: &env,
            path: native.string(value(AuxKind::EXECFN)),
            platform: Some(native.string(value(AuxKind::PLATFORM))),
            base_platform: None,
            random: *native.between(random, random + 16).first_chunk().unwrap(),
            auxv: &native.auxv,
        };
        let built = contents.build(GuestAddr(native.top)).unwrap();
        assert_eq!((built.args.start.0, built.args.end.0), (native.arg_start, native.arg_end));
        assert_eq!((built.env.start.0, built.env.end.0), (native.arg_end, native.env_end));
        assert!(built.bytes.ends_with(native.between(native.arg_start, native.top)));

        // The kernel's gap below the strings is random: what lies beneath is the same at another place.
        let moved = built.sp.0.wrapping_sub(native.sp);
        assert_eq!(moved % STACK_ALIGN, 0);
        let native_stack = native.as_built();
        for at in (built.sp.0..built.auxv.end.0).step_by(8) {
            let word = Reader(&native_stack).word(at.wrapping_sub(moved));
            let beneath = (native.sp..native.arg_start).contains(&word);
            let expected = if beneath { word.wrapping_add(moved) } else { word };
            assert_eq!(
                Reader(&built).word(at),
                expected,
                "{:#x} bytes above the stack pointer",
                at - built.sp.0
            );
        }
    }

    proptest! {
        #[test]
        fn a_program_finds_everything_where_it_looks(
            args in prop::collection::vec("[^\0]{0,40}", 1..9),
            env in prop::collection::vec("[^\0]{0,40}", 0..9),
            kinds in prop::collection::vec((1_u64..60, any::<u64>()), 0..24),
            top in 0x10000_u64..0x7fff_ffff_f000,
        ) {
            let own = |strings: &[std::string::String]| -> Vec<CString> {
                strings.iter().map(|string| CString::new(string.as_bytes()).unwrap()).collect()
            };
            let (args, env) = (own(&args), own(&env));
            let (args, env) = (borrow(&args), borrow(&env));
            let entries = kinds.iter().map(|&(kind, value)| entry(AuxKind(kind), value));
            let auxv: Vec<AuxEntry> = entries.collect();
            let stack = contents(&args, &env, &auxv).build(GuestAddr(top)).unwrap();
            let reader = Reader(&stack);

            prop_assert_eq!(stack.sp.0 % 16, 0);
            prop_assert_eq!(stack.sp.0 + stack.bytes.len() as u64, top);
            prop_assert_eq!(reader.word(stack.sp.0), args.len() as u64);
            let (argv, envp_at) = reader.vector(stack.sp.0 + WORD);
            let (envp, auxv_at) = reader.vector(envp_at);
            prop_assert_eq!(argv.iter().map(|&at| reader.string(at)).collect::<Vec<_>>(), args);
            prop_assert_eq!(envp.iter().map(|&at| reader.string(at)).collect::<Vec<_>>(), env);
            prop_assert_eq!(auxv_at, stack.auxv.start.0);
            let built = reader.entries(auxv_at);
            prop_assert_eq!(built.len(), auxv.len());
            prop_assert_eq!(auxv_at + (built.len() as u64 + 1) * 16, stack.auxv.end.0);
            for (built, given) in built.iter().zip(&auxv) {
                prop_assert!(built.kind == given.kind || built.kind == AuxKind::IGNORE);
            }
        }
    }
}
