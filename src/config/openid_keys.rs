//! The private keys that sign ID tokens: RSA keys for RS256, the one algorithm that every relying
//! party supports (`OpenID` Connect Core §15.1), and P-256 keys for ES256.

use std::io;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey};
use zeroize::Zeroizing;

use crate::config::named_secret::{NamedSecret, parse_named_secrets};
use crate::entropy::{Entropy, random_base62};
use crate::model::ValidationError;
use crate::model::oauth::IdTokenAlgorithm;

/// The variable with the keys.
pub const VARIABLE: &str = "OIDC_PRIVATE_KEYS";

/// The number of random characters in the id of a generated key. Relying parties cache keys by
/// their ids, so that a new key must never have the id of an earlier one.
const ID_LENGTH: usize = 10;

/// A private key, and the public key that is published.
pub struct OpenidKey {
    /// Its id.
    pub id: String,
    /// The algorithm that it signs with.
    pub algorithm: IdTokenAlgorithm,
    /// The private key.
    pub private: EncodingKey,
    /// The public key, with the id.
    pub public: Jwk,
}

/// Parses `id:base64[,id:base64…]`, newest first, where each secret is an RSA private key of 2048
/// to 8192 bits in DER (PKCS#1 or PKCS#8), or a P-256 private key in DER (SEC 1 or PKCS#8).
///
/// # Errors
/// The text has another form. The error does not contain the text, which is secret.
pub fn parse(text: &str) -> Result<Vec<OpenidKey>, ValidationError> {
    parse_named_secrets(text)?.iter().map(parse_key).collect()
}

fn parse_key(secret: &NamedSecret) -> Result<OpenidKey, ValidationError> {
    let rsa = read_rsa_key(&secret.bytes).ok().map(|key| (IdTokenAlgorithm::Rs256, key));
    let ec = || read_ec_key(&secret.bytes).map(|key| (IdTokenAlgorithm::Es256, key));
    let (algorithm, (private, mut public)) = rsa.or_else(ec).ok_or_else(|| {
        let id = &secret.id;
        format!(
            "must have an RSA private key of at least 2048 bits or a P-256 private key in DER for \
             the id {id}"
        )
    })?;
    public.common.key_id = Some(secret.id.clone());
    public.common.public_key_use = Some(PublicKeyUse::Signature);
    Ok(OpenidKey { id: secret.id.clone(), algorithm, private, public })
}

/// Reads PKCS#1, which openssl 3.0 writes, or PKCS#8. The library rejects keys that are too small
/// or too large.
fn read_rsa_key(der: &[u8]) -> jsonwebtoken::errors::Result<(EncodingKey, Jwk)> {
    let pkcs1 = EncodingKey::from_rsa_der(der);
    if let Ok(public) = Jwk::from_encoding_key(&pkcs1, Algorithm::RS256) {
        return Ok((pkcs1, public));
    }
    let pkcs8 = EncodingKey::from_rsa_pem(to_pem(der).as_bytes())?;
    let public = Jwk::from_encoding_key(&pkcs8, Algorithm::RS256)?;
    Ok((pkcs8, public))
}

/// Reads SEC 1, which openssl writes, or PKCS#8.
fn read_ec_key(der: &[u8]) -> Option<(EncodingKey, Jwk)> {
    let key = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der).ok()?;
    let private = EncodingKey::from_ec_der(key.to_pkcs8v1().ok()?.as_ref());
    let public = Jwk::from_encoding_key(&private, Algorithm::ES256).ok()?;
    Some((private, public))
}

/// Returns PKCS#8 as PEM, the form of it that the library reads.
fn to_pem(der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(BASE64_STANDARD.encode(der));
    Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", *text))
}

/// Generates an RSA key of 2048 bits and a P-256 key, as a value of the variable.
///
/// # Errors
/// The cryptographic library failed.
pub fn generate(entropy: &dyn Entropy) -> io::Result<Zeroizing<String>> {
    let failed = |_| io::Error::other("a key cannot be generated");
    let rsa: Pkcs8V1Der<'_> =
        KeyPair::generate(KeySize::Rsa2048).and_then(|key| key.as_der()).map_err(failed)?;
    let (curve, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
    let ec = EcdsaKeyPair::generate_pkcs8(curve, &random).map_err(failed)?;
    let name = |der: &[u8]| {
        let id = random_base62(entropy, ID_LENGTH);
        Zeroizing::new(format!("oidc-{id}:{}", *Zeroizing::new(BASE64_STANDARD.encode(der))))
    };
    Ok(Zeroizing::new(format!("{},{}", *name(rsa.as_ref()), *name(ec.as_ref()))))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn generated_keys_are_valid_and_only_their_public_members_are_published() {
        let [one, other] = [(); 2].map(|()| generate(&SystemEntropy).expect("keys"));
        let keys = parse(&format!("{},{}", *one, *other)).expect("four keys");
        let ids: HashSet<&String> = keys.iter().map(|key| &key.id).collect();
        assert_eq!(ids.len(), 4);
        let members = |key: &OpenidKey| {
            let published = serde_json::to_value(&key.public).expect("JSON");
            assert_eq!(published["kid"], key.id);
            assert_eq!(published["alg"], key.algorithm.as_str());
            let members: Vec<String> =
                published.as_object().expect("an object").keys().cloned().collect();
            members
        };
        assert_eq!(members(&keys[0]), ["alg", "e", "kid", "kty", "n", "use"]);
        assert_eq!(members(&keys[1]), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        let published = serde_json::to_value(&keys[0].public).expect("JSON");
        // 256 bytes in base64url.
        assert_eq!(published["n"].as_str().map(str::len), Some(342));
    }

    /// `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -outform DER | base64 -w0`
    const SMALL: &str = "\
        MIICXgIBAAKBgQDGOqtst0D/GwD5nzoZDLBgmiZvsj2GadatSUOsbtFWUX/u0LdBWC0AwQxSho8BEeEl\
        t5stNg1kPGKqf0rNSMUyA8g1DsGOOB5H6cgQzabvDqi5lFpAJ1lbO9l/tEcPwHmy6XIyULXXigLWySsV\
        Q+l6LnN/+vSrwJ4/zZuE1CK81wIDAQABAoGBALupMT6DohGgI+UtW1f5jkR1yqt1hw9nxSdZs6pbYuyf\
        zUht6P8AleIf4CWEY390yLvnPQ2pHTZmgFW+mjcLjDopTbqNp/uXTEHc+xPapncDJ1gdxLRa7yJeOFxo\
        KItYoMHGkbUg8ZRI84CsRfXIRXxKCzVfBuwjdmMUYKMYSGPJAkEA6dILs7i37LlR7tFiJs/M8/Uhro1y\
        Nznvh/oMC64o6qVTF/vvxFj107fxp8Lw/xBNxByw7ZTqB5AahHHQHWM5zQJBANkIWJ6KY7rwEeWiu1pr\
        Efj5BfeH6dQIrADfWJa5ECh9HdKpIfxqEFkWXcbKE3uTpjrqOyUB7lmV/DXy0VEaHTMCQQDkqywQlp0h\
        YNf1JEbGSEFbcKeBCwnhYsKUDAGNxsRzPj32XchOEOZRKTqnY6nG+M3k9l4963246cBVOO1cYDcdAkEA\
        lWPIVEDgCxIqz41nNwLSWTVYZR0518isVOFoAj+anrQYriPbj/qWDCx4GliIdpyYZJ9MXNnqbeHuvFfK\
        uu+lvwJAOeKQsS9qHfb5JWHhCAn6ARfBdvHjqQtZTihC9AomyQiNS3uxfXQ3yr68W0KowlX7roSRTqH3\
        7WSK5omFXNDKEQ==";

    /// `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -outform DER | base64 -w0`
    const P384: &str = "\
        MIGkAgEBBDCUq8TRdZWkt09LeuIuYjfhnAH9meynLlYbDRlm7gxUhVisTyS3tMJ/m3maJgaNOdCgBwYF\
        K4EEACKhZANiAAQ4WhvakOC6KsF42cgQ0q5TejzJXIrVFh633l3j315ztYb27rjIEJp9AAv1WXAUNUlf\
        QnZwTaNLE+PXVo9+u+8Lkk/i2KErFjD2e7LBUDehg+R6Vn+L8DIJASGAgfCGSVM=";

    #[test]
    fn only_rsa_keys_of_at_least_2048_bits_and_p_256_keys_are_valid() {
        let ed25519 = "MC4CAQAwBQYDK2VwBCIEIIgd9QjEpAZu3+7nwitf6u5KbavrYipHROCB9+gCegjq";
        let random = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        for key in [SMALL, P384, ed25519, random] {
            let error = parse(&format!("o1:{key}")).err().expect("an error");
            assert!(error.0.contains("RSA"), "{}", error.0);
            assert!(!error.0.contains(key));
        }
    }
}
