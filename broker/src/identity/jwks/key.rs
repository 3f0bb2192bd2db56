//! One key of an issuer: which are fit to verify proofs.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use ring::agreement;

use crate::config::issuer::JwsAlgorithm;
use crate::identity::jose::json::{Json, Object};
use crate::identity::jose::{decode_base64url, has_control_character};

/// Longest `kid` that is kept: it travels into grants and the audit log.
const MAX_KEY_ID_BYTES: usize = 255;

/// RSA moduli below can be factored by those who can pay (RFC 7518 §3.3); above, each verification costs a stranger's
/// request milliseconds of our time.
const RSA_MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// RSA exponents below invite forgeries where padding is checked laxly, at 3 most of all (FIPS 186-5 §A.1.1); above,
/// verification becomes as slow as signing.
const RSA_EXPONENT: std::ops::RangeInclusive<u64> = 65_537..=0x1_ffff_ffff;

/// Members that only a private or a shared key has (RFC 7518 §6.2.2, §6.3.2, §6.4; RFC 8037 §2).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A public key that may verify proofs of its issuer.
#[derive(Clone, Debug)]
pub struct VerificationKey {
    key_id: Option<String>,
    algorithm: Option<JwsAlgorithm>,
    shape: Shape,
    thumbprint: String,
    decoding_key: DecodingKey,
}

/// Two keys are one if they have the same name, purpose and material.
impl PartialEq for VerificationKey {
    fn eq(&self, other: &Self) -> bool {
        self.key_id == other.key_id && self.algorithm == other.algorithm && self.thumbprint == other.thumbprint
    }
}

/// Why a JWK may not verify proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// For another purpose, or of a type that is not known here.
    NotOurs,
    /// Weak or malformed.
    Refused(&'static str),
    /// Not public: whoever reads the key set can sign with it.
    Private,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// When it is known that a point lies on its curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Points {
    /// When the key is read.
    Checked,
    /// When a signature is verified.
    AtUse,
}

impl VerificationKey {
    /// Checks a JWK (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
    pub(super) fn from_jwk(jwk: &Object) -> Result<Self, Unfit> {
        Self::read(jwk, Points::Checked)
    }

    /// A key that somebody brings along to show that it is theirs.
    pub(in crate::identity) fn presented(jwk: &Object) -> Result<Self, &'static str> {
        // A point that is not on its curve verifies nothing: that it is one is not worth a key agreement at each request.
        Self::read(jwk, Points::AtUse).map_err(|unfit| match unfit {
            Unfit::NotOurs => "it is of a type, or for a purpose, that is not known here",
            Unfit::Refused(why) => why,
            Unfit::Private => "it is not public: whoever sees it can sign with it",
        })
    }

    fn read(jwk: &Object, points: Points) -> Result<Self, Unfit> {
        if PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
            return Err(Unfit::Private);
        }
        let text = |member: &str| match jwk.get(member) {
            None => Ok(None),
            Some(Json::Text(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(Unfit::Refused("a member that must be a string is not")),
        };
        check_purpose(text("use")?, jwk.get("key_ops"))?;
        let key_id = text("kid")?;
        if !key_id.is_none_or(is_fit_name) {
            return Err(Unfit::Refused("its `kid` is empty, longer than 255 bytes, or has control characters"));
        }
        let algorithm = match text("alg")? {
            None => None,
            Some(name) => Some(JwsAlgorithm::parse(name).ok_or(Unfit::NotOurs)?),
        };
        let (shape, decoding_key, required) = match (text("kty")?, text("crv")?) {
            (Some("RSA"), _) => rsa(text("n")?, text("e")?)?,
            (Some("EC"), Some("P-256")) => curve_point(Shape::P256, text("x")?, text("y")?, points)?,
            (Some("EC"), Some("P-384")) => curve_point(Shape::P384, text("x")?, text("y")?, points)?,
            (Some("OKP"), Some("Ed25519")) => edwards_point(text("x")?)?,
            (None, _) => return Err(Unfit::Refused("it has no `kty`")),
            _ => return Err(Unfit::NotOurs),
        };
        if algorithm.is_some_and(|algorithm| !shape.verifies(algorithm)) {
            return Err(Unfit::Refused("its `alg` is for another type of key"));
        }
        Ok(Self {
            key_id: key_id.map(str::to_owned),
            algorithm,
            shape,
            thumbprint: thumbprint(&required),
            decoding_key,
        })
    }

    /// `kid`.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// SHA-256 thumbprint (RFC 7638) in base64url: the key's name where the issuer gave it none.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// Whether the key may verify signatures of this algorithm: its type can, and its `alg`, if any, says so.
    #[must_use]
    pub fn verifies(&self, algorithm: JwsAlgorithm) -> bool {
        self.shape.verifies(algorithm) && self.algorithm.is_none_or(|own| own == algorithm)
    }

    pub(in crate::identity) fn decoding_key(&self) -> &DecodingKey {
        &self.decoding_key
    }
}

impl Shape {
    const fn verifies(self, algorithm: JwsAlgorithm) -> bool {
        use JwsAlgorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match algorithm {
            RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => matches!(self, Self::Rsa),
            ES256 => matches!(self, Self::P256),
            ES384 => matches!(self, Self::P384),
            EdDSA => matches!(self, Self::Ed25519),
        }
    }
}

/// Whether a `kid` can be kept and told.
pub(super) fn is_fit_name(kid: &str) -> bool {
    !kid.is_empty() && kid.len() <= MAX_KEY_ID_BYTES && !has_control_character(kid)
}

/// `use` and `key_ops` (RFC 7517 §4.2, §4.3): a key for something else verifies nothing here.
fn check_purpose(key_use: Option<&str>, operations: Option<&Json>) -> Result<(), Unfit> {
    if key_use.is_some_and(|key_use| key_use != "sig") {
        return Err(Unfit::NotOurs);
    }
    match operations {
        None => Ok(()),
        Some(Json::List(operations)) if operations.iter().any(|o| o.as_text() == Some("verify")) => Ok(()),
        Some(Json::List(_)) => Err(Unfit::NotOurs),
        Some(_) => Err(Unfit::Refused("its `key_ops` is not an array")),
    }
}

/// A checked key with the members that its thumbprint is made of.
type Checked<'j> = (Shape, DecodingKey, Vec<(&'static str, &'j str)>);

fn rsa<'j>(n: Option<&'j str>, e: Option<&'j str>) -> Result<Checked<'j>, Unfit> {
    let (Some(n), Some(e)) = (n, e) else { return Err(Unfit::Refused("it has no `n` or no `e`")) };
    let (Some(modulus), Some(exponent)) = (decode_base64url(n), decode_base64url(e)) else {
        return Err(Unfit::Refused("its `n` or `e` is not canonical base64url"));
    };
    // RFC 7518 §2: the minimum number of octets. Leading zeros would make a short modulus look long.
    let (Some(1..), Some(1..)) = (modulus.first(), exponent.first()) else {
        return Err(Unfit::Refused("its `n` or `e` is empty or starts with a zero octet"));
    };
    let leading_zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    if !RSA_MODULUS_BITS.contains(&modulus.len().saturating_mul(8).saturating_sub(leading_zeros)) {
        return Err(Unfit::Refused("its RSA modulus has less than 2048 or more than 8192 bits"));
    }
    let value = exponent.iter().fold(0_u64, |value, octet| value.saturating_mul(256).saturating_add((*octet).into()));
    if value % 2 == 0 || !RSA_EXPONENT.contains(&value) {
        return Err(Unfit::Refused("its RSA exponent is even, below 65537 or above 2^33"));
    }
    if modulus.last().is_none_or(|last| last % 2 == 0) {
        return Err(Unfit::Refused("its RSA modulus is even"));
    }
    if is_of_flawed_generator(&modulus) {
        return Err(Unfit::Refused("its RSA modulus is of a generator whose keys can be factored (CVE-2017-15361)"));
    }
    let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
    Ok((Shape::Rsa, key, vec![("e", e), ("kty", "RSA"), ("n", n)]))
}

/// Primes modulo which the powers of 65537 are not everything.
const TELLING_PRIMES: [u32; 17] = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/// Whether a modulus has the fingerprint of the smart cards' generator whose factors are powers of 65537 modulo the product
/// of small primes ("The Return of Coppersmith's Attack", §2.1). Of other moduli one in 2^27 has it.
fn is_of_flawed_generator(modulus: &[u8]) -> bool {
    TELLING_PRIMES.iter().all(|prime| {
        let remainder =
            modulus.iter().fold(0_u32, |sum, octet| (sum.wrapping_mul(256).wrapping_add((*octet).into())) % prime);
        let powers = std::iter::successors(Some(1_u32), |power| Some(power.wrapping_mul(65_537) % prime));
        powers.take(160).any(|power| power == remainder)
    })
}

fn curve_point<'j>(shape: Shape, x: Option<&'j str>, y: Option<&'j str>, points: Points) -> Result<Checked<'j>, Unfit> {
    let (crv, octets, agreement) = match shape {
        Shape::P384 => ("P-384", 48, &agreement::ECDH_P384),
        _ => ("P-256", 32, &agreement::ECDH_P256),
    };
    let (Some(x), Some(y)) = (x, y) else { return Err(Unfit::Refused("it has no `x` or no `y`")) };
    let coordinates = decode_base64url(x).zip(decode_base64url(y));
    let Some((x_octets, y_octets)) = coordinates.filter(|(x, y)| x.len() == octets && y.len() == octets) else {
        return Err(Unfit::Refused("its `x` or `y` is not canonical base64url of the curve's length"));
    };
    let point = [&[4][..], &x_octets, &y_octets].concat();
    if points == Points::Checked && !on_curve(agreement, &point) {
        return Err(Unfit::Refused("its point is not on its curve"));
    }
    let key = DecodingKey::from_ec_der(&point);
    Ok((shape, key, vec![("crv", crv), ("kty", "EC"), ("x", x), ("y", y)]))
}

/// ring checks a point when it agrees on a key with it, and says so then; when it verifies with it, a bad point cannot
/// be told from a bad signature. The agreed key is thrown away.
#[expect(clippy::disallowed_methods, reason = "the random scalar is a throw-away: no outcome depends on it")]
fn on_curve(algorithm: &'static agreement::Algorithm, point: &[u8]) -> bool {
    agreement::EphemeralPrivateKey::generate(algorithm, &ring::rand::SystemRandom::new()).is_ok_and(|scalar| {
        agreement::agree_ephemeral(scalar, &agreement::UnparsedPublicKey::new(algorithm, point), |_| ()).is_ok()
    })
}

fn edwards_point(x: Option<&str>) -> Result<Checked<'_>, Unfit> {
    let Some(x) = x else { return Err(Unfit::Refused("it has no `x`")) };
    let octets: Option<[u8; 32]> = decode_base64url(x).and_then(|octets| octets.try_into().ok());
    let Some(octets) = octets else { return Err(Unfit::Refused("its `x` is not canonical base64url of 32 octets")) };
    if is_degenerate(octets) {
        return Err(Unfit::Refused("its point has a small order or no canonical spelling: one signature fits all"));
    }
    let key = DecodingKey::from_ed_der(&octets);
    Ok((Shape::Ed25519, key, vec![("crv", "Ed25519"), ("kty", "OKP"), ("x", x)]))
}

/// Whether an Ed25519 public key is one of the eight points of small order, for which signatures over every message can
/// be made up without a private key, or is spelled with a `y` that is not reduced (RFC 8032 §5.1.3), as those points
/// can be. Whether any other `y` is on the curve ring checks at use.
fn is_degenerate(mut point: [u8; 32]) -> bool {
    /// `y` of the two pairs of points of order 8, little-endian.
    const ORDER_8: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let [first, middle @ .., last] = &mut point;
    *last &= 0x7f; // The sign of `x`: each `y` stands for both.
    // Orders 1 and 4 (`y` is 1 or 0).
    let is_zero_or_one = *first <= 1 && middle.iter().all(|octet| *octet == 0) && *last == 0;
    // Order 2 (`y` is p − 1), and everything from p to 2^255 − 1.
    let is_minus_one_or_not_reduced = *first >= 0xec && middle.iter().all(|octet| *octet == 0xff) && *last == 0x7f;
    is_zero_or_one || is_minus_one_or_not_reduced || ORDER_8.contains(&point)
}

/// RFC 7638 §3: the required members only, in lexicographic order, without whitespace. Their values were decoded as
/// base64url or are constants, so none needs escaping.
fn thumbprint(required: &[(&'static str, &str)]) -> String {
    let mut json = String::from("{");
    for (name, value) in required {
        let comma = if json.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(json, r#"{comma}"{name}":"{value}""#);
    }
    json.push('}');
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, json.as_bytes()))
}
