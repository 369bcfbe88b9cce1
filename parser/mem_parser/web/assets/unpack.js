// Reading the data blocks: base64, deflate (RFC 1951), and the packed tree that mem_parser/web/pack.py writes.
// Inflating is done here and not by the browser's DecompressionStream because that one answers only after the load event.

const LENGTH_BASE = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const DISTANCE_EXTRA = [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];
const CODE_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LONGEST_CODE = 15;

// A table indexed by the next `bits` bits of the stream: symbol << 4 | length of its code.
function codeTable(lengths) {
  let bits = 1;
  const counts = new Uint16Array(LONGEST_CODE + 1);
  for (const length of lengths) {
    counts[length] += 1;
    if (length > bits) bits = length;
  }
  counts[0] = 0;
  const next = new Uint16Array(LONGEST_CODE + 2);
  for (let length = 1, code = 0; length <= LONGEST_CODE; length += 1) {
    code = (code + counts[length - 1]) << 1;
    next[length] = code;
  }
  const table = new Uint16Array(1 << bits);
  for (let symbol = 0; symbol < lengths.length; symbol += 1) {
    const length = lengths[symbol];
    if (!length) continue;
    let reversed = 0;
    for (let k = 0, code = next[length]; k < length; k += 1, code >>= 1) reversed = reversed << 1 | code & 1;
    next[length] += 1;
    for (let at = reversed; at < table.length; at += 1 << length) table[at] = symbol << 4 | length;
  }
  return { table, mask: table.length - 1 };
}

class Inflater {
  constructor(input, size) {
    this.input = input;
    this.output = new Uint8Array(size);
    this.at = 0;
    this.end = 0;
    this.hold = 0;
    this.held = 0;
  }

  bits(count) {
    while (this.held < count) {
      this.hold |= this.input[this.at++] << this.held;
      this.held += 8;
    }
    const value = this.hold & (1 << count) - 1;
    this.hold >>>= count;
    this.held -= count;
    return value;
  }

  symbol(code) {
    while (this.held < LONGEST_CODE && this.at < this.input.length) {
      this.hold |= this.input[this.at++] << this.held;
      this.held += 8;
    }
    const entry = code.table[this.hold & code.mask];
    const length = entry & 15;
    if (!length || length > this.held) throw new Error("the packed data is damaged");
    this.hold >>>= length;
    this.held -= length;
    return entry >> 4;
  }

  run() {
    let last = 0;
    while (!last) {
      last = this.bits(1);
      const kind = this.bits(2);
      if (kind === 0) this.stored();
      else if (kind === 1) this.block(...Inflater.fixedCodes());
      else if (kind === 2) this.block(...this.dynamicCodes());
      else throw new Error("the packed data is damaged");
    }
    return this.output;
  }

  stored() {
    this.at -= this.held >> 3;
    this.hold = this.held = 0;
    const size = this.input[this.at] | this.input[this.at + 1] << 8;
    this.output.set(this.input.subarray(this.at + 4, this.at + 4 + size), this.end);
    this.at += 4 + size;
    this.end += size;
  }

  static fixedCodes() {
    const lengths = new Uint8Array(288).fill(8);
    lengths.fill(9, 144, 256);
    lengths.fill(7, 256, 280);
    return [codeTable(lengths), codeTable(new Uint8Array(30).fill(5))];
  }

  dynamicCodes() {
    const literals = this.bits(5) + 257, distances = this.bits(5) + 1, count = this.bits(4) + 4;
    const small = new Uint8Array(19);
    for (let k = 0; k < count; k += 1) small[CODE_ORDER[k]] = this.bits(3);
    const code = codeTable(small);
    const lengths = new Uint8Array(literals + distances);
    for (let k = 0; k < lengths.length;) {
      const symbol = this.symbol(code);
      if (symbol < 16) { lengths[k++] = symbol; continue; }
      const value = symbol === 16 ? lengths[k - 1] : 0;
      const repeat = symbol === 16 ? 3 + this.bits(2) : symbol === 17 ? 3 + this.bits(3) : 11 + this.bits(7);
      lengths.fill(value, k, k + repeat);
      k += repeat;
    }
    return [codeTable(lengths.subarray(0, literals)), codeTable(lengths.subarray(literals))];
  }

  block(literal, distance) {
    const output = this.output;
    for (;;) {
      const symbol = this.symbol(literal);
      if (symbol < 256) { output[this.end++] = symbol; continue; }
      if (symbol === 256) return;
      const length = LENGTH_BASE[symbol - 257] + this.bits(LENGTH_EXTRA[symbol - 257]);
      const code = this.symbol(distance);
      let from = this.end - DISTANCE_BASE[code] - this.bits(DISTANCE_EXTRA[code]);
      for (const stop = this.end + length; this.end < stop;) output[this.end++] = output[from++];
    }
  }
}

// "<size>:<base64 of deflate>" to bytes.
function unpackBytes(text) {
  const colon = text.indexOf(":");
  const binary = atob(text.slice(colon + 1));
  const input = new Uint8Array(binary.length);
  for (let k = 0; k < binary.length; k += 1) input[k] = binary.charCodeAt(k);
  return new Inflater(input, Number(text.slice(0, colon))).run();
}

function unpackJson(text) {
  return JSON.parse(new TextDecoder().decode(unpackBytes(text)));
}

// The head of a packed tree, and its columns by name.
function unpackTree(text) {
  const bytes = unpackBytes(text);
  const size = new DataView(bytes.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  const columns = new Map();
  let at = 4 + size;
  for (const [name, kind, width, count] of head.columns) {
    const values = kind === "l" ? new Float64Array(count) : new Uint32Array(count);
    for (let plane = 0; plane < width; plane += 1, at += count) {
      if (kind === "l") {
        const weight = 256 ** plane;
        for (let k = 0; k < count; k += 1) values[k] += bytes[at + k] * weight;
        continue;
      }
      const shift = 8 * plane;
      for (let k = 0; k < count; k += 1) values[k] |= bytes[at + k] << shift;
    }
    columns.set(name, kind === "f" ? new Float32Array(values.buffer) : values);
  }
  return { head, columns };
}

// The JSON in the data block `id`, or null where the page has none.
function readBlock(id) {
  const block = document.getElementById(id);
  return block ? JSON.parse(block.textContent) : null;
}
