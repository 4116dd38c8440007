//! The address of a dynamic symbol, by its name. For what a debugger wants to know: a file that does not say has none.

use core::ffi::CStr;

use goblin::elf64::program_header::PT_DYNAMIC;
use goblin::elf64::section_header::SHN_UNDEF;

use super::image::Image;

/// Bytes of an `Elf64_Sym`.
const SYMBOL_LEN: usize = 24;

/// The link-time address of the symbol called `name` that the file defines in `.dynsym`.
#[must_use]
pub(crate) fn address_of(image: &Image<'_>, name: &CStr) -> Option<u64> {
    let (symbols, names) = (image.section(".dynsym")?.bytes, image.section(".dynstr")?.bytes);
    let (symbols, _) = symbols.as_chunks::<SYMBOL_LEN>();
    symbols.iter().find_map(|symbol| {
        let (address, at) = defined(symbol)?;
        let held = names.get(usize::try_from(at).ok()?..)?;
        held.starts_with(name.to_bytes_with_nul()).then_some(address)
    })
}

/// Address and offset of the name of a symbol that the file defines (gABI, "Symbol Table").
fn defined(symbol: &[u8; SYMBOL_LEN]) -> Option<(u64, u32)> {
    let (words, _) = symbol.as_chunks::<8>();
    let [head, address, _] = *words else { return None };
    let [n0, n1, n2, n3, _, _, section_low, section_high] = head;
    let is_defined = u32::from(u16::from_le_bytes([section_low, section_high])) != SHN_UNDEF;
    is_defined.then_some((u64::from_le_bytes(address), u32::from_le_bytes([n0, n1, n2, n3])))
}

/// The link-time address of the dynamic section; none for a static program.
#[must_use]
pub(crate) fn dynamic_section(image: &Image<'_>) -> Option<u64> {
    image.program_headers().find(|header| header.kind == PT_DYNAMIC).map(|header| header.vaddr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dynamic_loader_has_what_debuggers_look_for() {
        let file = std::fs::read("/lib64/ld-linux-x86-64.so.2").unwrap();
        let image = Image::parse_interpreter(&file).unwrap();
        assert!(address_of(&image, c"_r_debug").is_some_and(|at| at != 0));
        assert_eq!(address_of(&image, c"_r_debu"), None);
        assert!(dynamic_section(&image).is_some());
    }
}
