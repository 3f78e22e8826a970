//! The HTTP client is built without a TLS provider of its own, so that no C code is compiled for one.

/// Makes sure that there is a provider.
pub(super) fn install_provider() {
    // An error says that there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
