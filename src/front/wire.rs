//! Requests of the front's own, as they go upstream.

/// A request in its wire form.
pub(super) fn request_of(words: &[&[u8]]) -> Vec<u8> {
    let mut request = Vec::new();
    write_request(&mut request, words);
    request
}

/// Appends a request.
pub(super) fn write_request(request: &mut Vec<u8>, words: &[&[u8]]) {
    write_header(request, b'*', words.len());
    for word in words {
        write_header(request, b'$', word.len());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
}

fn write_header(request: &mut Vec<u8>, kind: u8, len: usize) {
    request.push(kind);
    request.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
    request.extend_from_slice(b"\r\n");
}
