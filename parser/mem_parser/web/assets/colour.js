// Colours of frames. Hue tells the module, lightness varies by function; in a difference red grew and blue shrank.
// Colour never stands alone: labels carry signs, the details line carries words.

const MATCH_COLOUR = { light: "#ffd21f", dark: "#866600" };

function hashOf(text) {
  let hash = 0x811c9dc5;
  for (let k = 0; k < text.length; k += 1) hash = Math.imul(hash ^ text.charCodeAt(k), 0x01000193);
  return hash >>> 0;
}

class Palette {
  constructor(profile, dark) {
    this.profile = profile;
    this.dark = dark;
    this.fills = new Array(profile.names.length).fill(null);
    this.hues = Palette.huesOf(profile);
    this.text = dark ? "#f2f2f2" : "#1a1a1a";
    this.back = dark ? "#16181c" : "#ffffff";
    this.edge = dark ? "#16181c" : "#ffffff";
    this.rest = dark ? "#3a3d44" : "#d4d6da";
    this.outline = dark ? "#ffffff" : "#000000";
    this.match = dark ? MATCH_COLOUR.dark : MATCH_COLOUR.light;
  }

  // Neighbouring hues are a golden angle apart, so that few modules get very different ones.
  static huesOf(profile) {
    const modules = [...new Set(profile.nameModule.map(baseName))].sort();
    return new Map(modules.map((module, k) => [module, (205 + k * 137.5) % 360]));
  }

  ofName(name) {
    return this.fills[name] ??= this.makeFill(name);
  }

  makeFill(name) {
    if (name === 0 || this.profile.nameKind[name] & (KIND_ALLOCATOR | KIND_PSEUDO)) return this.rest;
    const hue = this.hues.get(baseName(this.profile.nameModule[name]));
    const step = hashOf(this.profile.names[name]) % 11 - 5;
    return this.dark ? `hsl(${hue} 32% ${28 + step}%)` : `hsl(${hue} 58% ${78 + step}%)`;
  }

  // -1 (all gone) to 1 (all new); null: inside the noise.
  ofChange(change) {
    if (change === null) return this.rest;
    const strength = Math.min(1, Math.abs(change));
    const hue = change > 0 ? 4 : 215;
    return this.dark
      ? `hsl(${hue} ${35 + 40 * strength}% ${30 + 12 * strength}%)`
      : `hsl(${hue} ${55 + 30 * strength}% ${88 - 26 * strength}%)`;
  }
}

// How a node of a difference changed, from -1 to 1; null where the change is inside the noise (or, where the
// error is unknown, below one percent).
function changeOf(view, node, exact, unseen) {
  const value = view.value[node], base = view.base[node];
  const delta = value - base, larger = Math.max(value, base);
  if (!(larger > 0)) return null;
  const noise = exact ? changeNoise(view, node, unseen) : 0.01 * larger;
  if (Math.abs(delta) <= noise) return null;
  return delta / larger;
}

// How large a change chance alone explains (mem_parser/significance.py, p_of_change). What one object more adds is
// the mean over the samples there are.
function changeNoise(view, node, { weight, bounded }) {
  const samples = view.variance[node] + view.baseVariance[node];
  const one = bounded ? weight : samples / (view.value[node] + view.base[node]);
  return one / 2 + Z95 * Math.sqrt(changeVariance(view, node) + one * one / 2);
}

// What both snapshots hold only cancels, so the variance of a change is never above that of independent profiles.
function changeVariance(view, node) {
  return Math.min(view.between[node], view.variance[node] + view.baseVariance[node]);
}
