//! Protocol Buffers messages, read as far as strings, bytes and messages go (encoding, "message structure").

/// One field of a message that has a length: a string, bytes, a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field<'m> {
    pub(super) number: u64,
    pub(super) bytes: &'m [u8],
}

/// The fields of a message that have a length, in order. Others are skipped; what cannot be read ends it with an error.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, &'static str>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            match field(&mut rest) {
                Ok(Some(field)) => return Some(Ok(field)),
                Ok(None) => {}
                Err(error) => {
                    rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

fn field<'m>(rest: &mut &'m [u8]) -> Result<Option<Field<'m>>, &'static str> {
    const CUT_SHORT: &str = "a field is cut short";
    let tag = varint(rest)?;
    let length = match tag & 7 {
        0 => {
            varint(rest)?;
            return Ok(None);
        }
        1 => 8,
        2 => usize::try_from(varint(rest)?).map_err(|_| CUT_SHORT)?,
        5 => 4,
        _ => return Err("a field is of no known type"),
    };
    let (bytes, behind) = rest.split_at_checked(length).ok_or(CUT_SHORT)?;
    *rest = behind;
    Ok((tag & 7 == 2).then_some(Field { number: tag >> 3, bytes }))
}

fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first().ok_or("a number is cut short")?;
        *rest = behind;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number is longer than 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_in_order_and_others_are_skipped() {
        // 1: "ab" · 2: varint 300 · 3: fixed32 · 4: "" · 1: "c"
        let message = b"\x0a\x02ab\x10\xac\x02\x1d\x01\x02\x03\x04\x22\x00\x0a\x01c";
        let read: Vec<_> = fields(message).map(|field| field.map(|field| (field.number, field.bytes))).collect();
        assert_eq!(read, [Ok((1, &b"ab"[..])), Ok((4, &b""[..])), Ok((1, &b"c"[..]))]);
    }

    #[test]
    fn what_cannot_be_read_ends_in_an_error() {
        for message in [&b"\x0a\x05ab"[..], b"\x0a", b"\x0b", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert!(fields(message).any(|field| field.is_err()), "{message:?}");
        }
    }
}
