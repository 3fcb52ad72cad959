//! Any bytes are a store or an error; and a store that opens can be read, damaged or not, without a panic.
#![no_main]

use std::io::Write as _;

use corpus::{NgramIndex, TokenStore};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("room for it");
    let Ok(store) = TokenStore::open(file.path()) else { return };
    let _ = store.verify();
    let _ = store.fingerprint();
    // A header may claim any number of empty documents.
    for document in (0..store.document_count()).take(50) {
        let _ = store.document(document);
        let _ = store.prompts(document).count();
        let _ = store.document_hash(document);
    }
    let _ = store.documents_in(0..store.token_count()).take(50).count();
    let mut ids = vec![0; store.token_count().min(1000) as usize];
    let _ = store.read_i32(0, &mut ids);
    if store.document_count() < 50 {
        let _ = store.inspect();
        let _ = NgramIndex::new(&[&store], 3).and_then(|index| index.contamination(&store));
    }
});
