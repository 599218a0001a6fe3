//! Tokens as text, and as content with a checksum that is right.
#![no_main]

use causeway_wire::token::{JoinToken, LinkToken, TokenError};
use data_encoding::BASE64URL_NOPAD;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use std::fmt::{Debug, Display};
use std::str::FromStr;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        check::<JoinToken>(text);
        check::<LinkToken>(text);
    }
    let sum = Sha256::digest(input);
    let body = BASE64URL_NOPAD.encode(&[input, &sum[..4]].concat());
    check::<JoinToken>(&format!("cwj1_{body}"));
    check::<LinkToken>(&format!("cwl1_{body}"));
});

fn check<T: FromStr<Err = TokenError> + Display + Debug + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(token) => assert_eq!(token.to_string().parse::<T>(), Ok(token)),
        Err(error) => assert!(!error.to_string().is_empty() && !error.reason().is_empty()),
    }
}
