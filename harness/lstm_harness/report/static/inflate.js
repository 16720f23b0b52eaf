/* The bytes of a base64 text that holds a zlib stream. */
async function inflate(text) {
  const chars = atob(text);
  const packed = new Uint8Array(chars.length);
  for (let i = 0; i < chars.length; i++) packed[i] = chars.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
