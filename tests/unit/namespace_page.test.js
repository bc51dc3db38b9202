// The page's scanner on the corpus that Python recorded, and the weights of Ctrl+Up and Ctrl+Down.
//
// `node namespace_page.test.js --scan` reads {registry, texts} from its input and writes what is found in each text.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const page = join(__dirname, "..", "..", "javascript");
const { registryOf, scan } = require(join(page, "prism_namespaces_scan.js"));

// Python counts code points, a text box UTF-16 units.
const told = (text, registry) => {
  const at = (unit) => [...text.slice(0, unit)].length;
  return scan(text, registry).map((tag) => [
    at(tag.start), at(tag.end), tag.namespace, tag.written, tag.value, tag.negative, tag.quoted, tag.inline,
    tag.opens, tag.closes, tag.outer.map(at),
  ]);
};

const tests = () => {
  const test = require("node:test");
  const assert = require("node:assert/strict");
  const { weigh } = require(join(page, "prism_namespaces_weight.js"));
  const corpus = JSON.parse(readFileSync(join(__dirname, "data", "namespace_spans.json"), "utf8"));
  const registry = registryOf(corpus.registry), open = registryOf({ ...corpus.registry, chosen: false });

  test("the tags of the corpus", () => {
    corpus.cases.forEach(({ text, chosen, open: unchosen }) => {
      assert.deepEqual(told(text, registry), chosen, text);
      assert.deepEqual(told(text, open), unchosen, text);
    });
  });

  test("a long hostile prompt takes time for its length only", () => {
    const families = ["(", "[", "\\", "species:", '"', "a:b|", " ", "species:(", "(species:a", "-species:\"", "海:豹，", "<a:"];
    families.forEach((piece) => {
      const start = performance.now();
      scan(`year:1${piece.repeat(50_000)}`, registry);
      assert.ok(performance.now() - start < 4_000, piece); // a tenth of a second on a quiet machine; the square of it is minutes
    });
  });

  // "¦" marks the caret, two of them a selection.
  const press = (marked, step = 0.1) => {
    const text = marked.replaceAll("¦", ""), from = marked.indexOf("¦"), to = marked.lastIndexOf("¦");
    const done = weigh(text, scan(text, registry), from, Math.max(from, to - 1), step);
    if (!done) return null;
    const { text: after, from: start, to: end } = done;
    return start === end
      ? `${after.slice(0, start)}¦${after.slice(start)}`
      : `${after.slice(0, start)}¦${after.slice(start, end)}¦${after.slice(end)}`;
  };
  const UP = [
    ["a, species:se¦al, b", "a, (species:se¦al:1.1), b"],
    ["a, spec¦ies:seal, b", "a, (spec¦ies:seal:1.1), b"],
    ["¦species:harbor seal", "(¦species:harbor seal:1.1)"],
    ["species:harbor seal¦, b", "(species:harbor seal¦:1.1), b"],
    ["species:har¦bor¦ seal", "(species:har¦bor¦ seal:1.1)"],
    ["a photo of species:se¦al in a pool", "a photo of (species:se¦al:1.1) in a pool"],
    ["(medium:3d ren¦der)", "(medium:3d ren¦der:1.2)"],
    ["(species:se¦al:1.2)", "(species:se¦al:1.3)"],
    ["(species:seal:1.¦2)", "(species:seal¦:1.3)"],
    ["(species:se¦al:0.9)", "species:se¦al"],
    ["((species:se¦al))", "(species:se¦al:1.3)"],
    ["[species:se¦al]", "species:se¦al"],
    ["( species:se¦al )", "(species:se¦al:1.2)"],
    ["species:(se¦al:1.2)", "species:(se¦al:1.3)"],
    ["species:(se¦al:0.9)", "species:se¦al"],
    ["（species：se¦al：1.2）", "(species：se¦al:1.3)"],
    ["(year:19¦90)", "(year:19¦90:1.2)"],
    ["year:19¦90", "(year:19¦90:1.1)"],
    ["[species:se¦al:0.5]", "[(species:se¦al:1.1):0.5]"],
    ["[(species:se¦al:1.1):0.5]", "[(species:se¦al:1.2):0.5]"],
    ["[species:seal|species:d¦og]", "[species:seal|(species:d¦og:1.1)]"],
    ["(cat, species:se¦al:1.2)", "(cat, (species:se¦al:1.1):1.2)"],
    ["character:handler (monster ¦hunter world)", "(character:handler (monster ¦hunter world):1.1)"],
    ['species:"a, ¦b"', '(species:"a, ¦b":1.1)'],
    ["🦭🦭, species:🦭¦, b", "🦭🦭, (species:🦭¦:1.1), b"],
  ];
  const DOWN = [
    ["species:se¦al", "(species:se¦al:0.9)"],
    ["(species:se¦al:1.1)", "species:se¦al"],
    ["(species:se¦al:1.2)", "(species:se¦al:1.1)"],
    ["(species:se¦al:0.1)", "(species:se¦al:0.0)"],
    ["((species:se¦al))", "(species:se¦al:1.1)"],
    ["[species:se¦al]", "(species:se¦al:0.8)"],
  ];
  const HOSTS_OWN = ["a ca¦t, species:seal", "re:ze¦ro", "¦a, species:seal¦", "(x:1.2)¦, species:seal", "<lora:se¦al:1>"];

  test("Ctrl+Up weights a tag as a whole", () => UP.forEach(([before, after]) => assert.equal(press(before), after)));
  test("Ctrl+Down too", () => DOWN.forEach(([before, after]) => assert.equal(press(before, -0.1), after)));
  test("anywhere else it is the host's", () => HOSTS_OWN.forEach((text) => assert.equal(press(text), null)));
  test("down and up again gives the text back", () => UP.forEach(([, text]) => assert.equal(press(press(text, -0.1)), text)));
};

if (process.argv.includes("--scan")) {
  const { registry, texts } = JSON.parse(readFileSync(0, "utf8"));
  const known = registryOf(registry);
  process.stdout.write(JSON.stringify(texts.map((text) => told(text, known))));
} else tests();
