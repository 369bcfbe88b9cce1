// Reading the data blocks that mem_parser/web/pack.py writes: base64 of zlib's format, which the browser inflates. It does so
// only in its own time: a page begins when all its blocks are bytes.

// Blocks that are packed, or lists or objects of packed ones.
const PACKED_BLOCKS = ["tree", "times", "tables", "leaks", "diff", "budget", "source", "pools", "operators", "devices"];

// "<size>:<base64>" to bytes, of which there are no more than `size`.
async function unpackBytes(text) {
  const colon = text.indexOf(":");
  const binary = atob(text.slice(colon + 1));
  const input = new Uint8Array(binary.length);
  for (let k = 0; k < binary.length; k += 1) input[k] = binary.charCodeAt(k);
  const reader = new Blob([input]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const output = new Uint8Array(Number(text.slice(0, colon)));
  let end = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    output.set(part.value, end);
    end += part.value.length;
  }
  return output;
}

async function unpackBlock(block) {
  if (typeof block === "string") return unpackBytes(block);
  const parts = await Promise.all(Object.values(block).map(unpackBlock));
  return Array.isArray(block) ? parts : Object.fromEntries(Object.keys(block).map((key, k) => [key, parts[k]]));
}

// The data of a page, by the names of its blocks, with bytes for what is packed.
async function unpackBlocks(data) {
  const packed = PACKED_BLOCKS.filter((name) => data[name]);
  const blocks = await Promise.all(packed.map((name) => unpackBlock(data[name])));
  return { ...data, ...Object.fromEntries(packed.map((name, k) => [name, blocks[k]])) };
}

// Calls `start` with the data that the page has in it. The sentence about browsers goes, or says why the page did not begin.
async function startPage(start) {
  const needs = document.getElementById("needs");
  try {
    const blocks = [...document.querySelectorAll('script[type="application/json"]')].map((block) => [block.id, JSON.parse(block.textContent)]);
    const data = await unpackBlocks(Object.fromEntries(blocks));
    needs.remove();
    start(data);
  } catch (error) {
    needs.append(` ${phrase("It did not begin: {why}", { why: error.message })}`);
    document.body.prepend(needs);
    throw error;
  }
}

function unpackJson(bytes) {
  return JSON.parse(new TextDecoder().decode(bytes));
}

// The head of a packed tree, and its columns by name.
function unpackTree(bytes) {
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
