/* The samples of one row of the Summary, from what samples.py made; its docstring tells the bytes.
   Resolves to [{block, ns: [...], marked: [...]}], `marked` holding places in `ns`; to null where
   the row's samples are left out. Rejects where the payload is not what it says. */
async function decodeSamples(payload, row) {
  if (row >= payload.rows) return null;
  const bytes = await inflate(payload.chunks[Math.floor(row / payload.rows_a_chunk)]);
  let at = 0;
  // Beyond 32 bits JavaScript shifts wrongly, and multiplies rightly up to 2^53.
  function next() {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length) throw new Error("the samples end too soon");
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  }
  function summed(count, step) {
    const values = [];
    for (let i = 0, value = 0; i < count; i++) values.push((value += step()));
    return values;
  }
  function signed() {
    const value = next();
    return value % 2 ? -(value + 1) / 2 : value / 2;
  }
  function blocks() {
    const count = next() - 1;
    if (count < 0) return null;
    return Array.from({ length: count }, () => {
      const [block, samples, places] = [next(), next(), next()];
      const marked = summed(places, next);
      return { block, ns: summed(samples, signed), marked };
    });
  }
  for (let before = row % payload.rows_a_chunk; before > 0; before--) blocks();
  return blocks();
}
