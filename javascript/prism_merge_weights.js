// The weights of blocks: from the panel's texts to levels, and back. Nothing of the page is here.
//
// The rules are those of lib/sd_prism/merge (Term.levels, Selector), which explain them. A model is {blocks, spine,
// presets, own}, its presets lists that begin with BASE, the user's own in any length; fields are {ratio, preset, weights, blocks, te, vae}.
(() => {
  const FLAT = "Flat", BASE = "BASE", VAE = "VAE";
  const ALIASES = { TE: BASE, MID: "M00", MID00: "M00", TIME: "TIME_EMBED", LABEL: "LABEL_EMB" };
  const numbered = (letters) => Array.from({ length: 12 }, (_, i) => letters + String(i).padStart(2, "0"));
  const CLASSIC = [...numbered("IN"), "M00", ...numbered("OUT")];
  const COMMAND = [...CLASSIC, "TIME_EMBED", "OUT"]; // what runtime-block-merge has sliders for
  const SDXL = 19; // blocks that presets run over
  const CLOSE = 1e-3;

  const round = (value) => Math.round(value * 1e4) / 1e4;
  const same = (one, other) => Math.abs(one - other) < CLOSE;
  const items = (text) => text.replace(/\s*=\s*/g, "=").split(/[\s,]+/).filter(Boolean);
  const number = (text) => {
    const value = text.trim() ? Number(text) : NaN;
    if (!Number.isFinite(value)) throw new Error(`“${text}” is no number`);
    return value;
  };

  const canonical = (written) => {
    const upper = written.trim().toUpperCase();
    return (ALIASES[upper] ?? upper).replace(/^(IN|OUT|M)(\d)$/, (_, letters, digit) => `${letters}0${digit}`);
  };

  // --- the list of weights

  // The blocks that a list of so many weights is for.
  const labelsOf = (count, model) => {
    const spine = model.spine.length === SDXL && count > 24 && count < 28 ? CLASSIC : model.spine;
    if (count === spine.length) return spine;
    if (count === spine.length + 1) return [BASE, ...spine];
    if (count === spine.length + 2) return spine.length === SDXL ? [BASE, ...spine, VAE] : [...spine, "TIME_EMBED", "OUT"];
    const size = model.spine.length;
    throw new Error(`${count} weights: ${size} are needed, or ${size + 1} with the text encoder's first`);
  };

  // A preset's or list's weights, and what follows them in the other blocks.
  const spread = (named, model) => {
    const first = named[model.spine[0]] ?? 0, last = named[model.spine.at(-1)] ?? 0;
    const ends = { [BASE]: 0, [VAE]: named[BASE] ?? 0, OUT: last };
    return Object.fromEntries(model.blocks.map((label) => [label, named[label] ?? ends[label] ?? first]));
  };
  const zip = (labels, values) => Object.fromEntries(labels.map((label, i) => [label, values[i]]));

  // In place of a list there may be a preset's name, which may be the user's own, or runtime-block-merge's command.
  const isCommand = (text) => text.includes(":");
  const isName = (text) => /^\s*\p{L}/u.test(text) && !isCommand(text);
  const presetOf = (name, model) => {
    const found = model.own[name] ?? model.presets[name.toUpperCase()];
    if (!found) throw new Error(`“${name}” is no preset`);
    return found;
  };

  // "base:0.5, in00:1" as a list of all its sliders; its base is every one that is not named.
  const commandOf = (text) => {
    const pieces = text.split(/[,\n]/).filter((piece) => piece.trim()).map((piece) => piece.split(":"));
    const sliders = Object.fromEntries(pieces.map(([name, weight = ""]) => [canonical(name), number(weight)]));
    const unknown = Object.keys(sliders).find((label) => label !== BASE && !COMMAND.includes(label));
    if (unknown) throw new Error(`“${unknown}” is no slider of runtime-block-merge`);
    return COMMAND.map((label) => sliders[label] ?? sliders[BASE] ?? 0);
  };
  const valuesOf = (text, model) => {
    if (isCommand(text)) return commandOf(text);
    return isName(text) ? presetOf(text.trim(), model) : items(text).map(number);
  };

  // {named: the blocks that the list names, levels: before any rule}
  const listed = ({ ratio, preset, weights }, model) => {
    const values = valuesOf(weights, model);
    const known = model.presets[preset];
    if (values.length) {
      const named = zip(labelsOf(values.length, model), values);
      return { named, levels: spread(named, model) };
    }
    if (preset === FLAT || !known) return { named: {}, levels: zip(model.blocks, model.blocks.map(() => ratio)) };
    return { named: {}, levels: spread(zip([BASE, ...model.spine], known), model) };
  };

  // --- rules

  const labelOf = (written, model) => {
    const label = canonical(written);
    if (!model.blocks.includes(label) && label !== BASE && label !== VAE) throw new Error(`“${written}” is no block of this model`);
    return label;
  };

  // One item: {key, labels it sets, weight}; one with a piece of a name ("/attn2=0") sets no whole block.
  const ruleOf = (item, model) => {
    const [selector, text, ...rest] = item.split("=");
    if (!selector || text === undefined || rest.length) throw new Error(`“${item}” is not of the form IN04=0.3`);
    const [blocks, piece] = selector.split("/"), weight = number(text);
    if (piece !== undefined) return { key: selector, labels: [], weight };
    const [first, last = first] = blocks.split("-").map((one) => labelOf(one, model));
    if (first === last) return { key: first, labels: model.blocks.includes(first) ? [first] : [], weight };
    const [start, stop] = [first, last].map((one) => model.blocks.indexOf(one)).sort((one, other) => one - other);
    return { key: `${first}-${last}`, labels: start < 0 ? [] : model.blocks.slice(start, stop + 1), weight };
  };
  const rulesOf = ({ te, vae, blocks }, model) => {
    const ends = [[BASE, te], [VAE, vae]].filter(([, text]) => text.trim()).map(([label, text]) => `${label}=${text.trim()}`);
    const rules = new Map(); // one that is written again keeps its place
    [...ends, ...items(blocks)].map((item) => ruleOf(item, model)).forEach((rule) => rules.set(rule.key, rule));
    return [...rules.values()];
  };

  // --- both

  // {levels: the weight of every block, own: the blocks that a list or rule names}; throws an Error in words.
  const read = (fields, model) => {
    const { named, levels } = listed(fields, model), own = new Set(Object.keys(named));
    rulesOf(fields, model).forEach(({ labels, weight }) => labels.forEach((label) => {
      levels[label] = weight;
      own.add(label);
    }));
    return { levels, own };
  };

  // What there is without any weights of one's own.
  const plain = (fields) => ({ ...fields, weights: "", blocks: "", te: "", vae: "0" });

  const without = (blocks, labels, model) =>
    items(blocks).filter((item) => !labels.includes(ruleOf(item, model).key)).join(" ");

  const written = (fields, levels, model) => {
    const usual = listed(plain(fields), model).levels, labels = [BASE, ...model.spine];
    const valued = (label) => round(levels[label] ?? 0);
    if (labels.every((label) => same(valued(label), usual[label] ?? 0))) return "";
    return labels.map(valued).join(" ");
  };

  // The fields with other levels for some blocks; all other blocks that have one keep theirs.
  const change = (fields, model, changes) => {
    const { levels, own } = read(fields, model), labels = Object.keys(changes);
    const wanted = { ...zip([...own], [...own].map((label) => levels[label])), ...changes };
    const next = { ...fields, blocks: without(fields.blocks, labels, model) };
    const raw = listed(fields, model).levels;
    model.spine.forEach((label) => { wanted[label] ??= levels[label]; });
    if (labels.some((label) => model.spine.includes(label))) next.weights = written(fields, { [BASE]: 0, ...raw, ...spined(changes, model) }, model);
    if (BASE in changes) next.te = String(round(changes[BASE]));
    if (VAE in changes) next.vae = String(round(changes[VAE]));
    model.blocks.filter((label) => label in wanted && !same(read(next, model).levels[label], wanted[label])).forEach((label) => {
      if (label === BASE) next.te = "";
      if (label === VAE) next.vae = "";
      next.blocks = `${without(next.blocks, [label], model)} ${label}=${round(wanted[label])}`.trim();
    });
    return next;
  };
  const spined = (changes, model) => Object.fromEntries(Object.entries(changes).filter(([label]) => model.spine.includes(label)));

  // The fields with a block as preset or ratio have it.
  const reset = (fields, model, label) => {
    if (model.spine.includes(label)) return change(fields, model, { [label]: read(plain(fields), model).levels[label] });
    const ends = label === BASE ? { te: "" } : label === VAE ? { vae: "0" } : {};
    return { ...fields, ...ends, blocks: without(fields.blocks, [label], model) };
  };

  // The block that one without a weight of its own goes along with.
  const leader = (label, model) => {
    if (label === VAE) return BASE;
    return label === "OUT" ? model.spine.at(-1) : model.spine[0];
  };

  // What is drawn before the server has told which model is loaded.
  const UNKNOWN = { blocks: [BASE, ...CLASSIC, "TIME_EMBED", "OUT", VAE], spine: CLASSIC, presets: {}, own: {} };

  Object.assign((globalThis.prismMerge ??= {}), { read, change, reset, plain, leader, round, UNKNOWN });
  if (typeof module !== "undefined") module.exports = globalThis.prismMerge;
})();
