// Reads {model, cases: [{fields, changes, label}]} from its input; writes for each case what the page makes of it.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { read, change, reset } = require(join(__dirname, "..", "..", "javascript", "prism_merge_weights.js"));

const { model, cases } = JSON.parse(readFileSync(0, "utf8"));
const made = cases.map(({ fields, changes, label }) => {
  try {
    const { levels, own } = read(fields, model);
    return { levels, own: [...own], changed: change(fields, model, changes), reset: reset(fields, model, label) };
  } catch (error) {
    return { error: error.message };
  }
});
process.stdout.write(JSON.stringify(made));
