// One question to the real llama.cpp: the tokens of texts, greedy tokens after a prompt, the nats of a row of tokens.
// It reads {library, model, texts, prompt, count, row} as JSON on standard input, and prints the answers as JSON.
import fs from "fs";
const asked = JSON.parse(fs.readFileSync(0));
const {getLlama} = await import(asked.library);
const llama = await getLlama({build: "never", gpu: false, logLevel: "error", progressLogs: false});
const model = await llama.loadModel({modelPath: asked.model});
const tokens = asked.texts.map((text) => Array.from(model.tokenize(text, false)));
const context = await model.createContext({contextSize: asked.context, batchSize: asked.context, flashAttention: false});
const sequence = context.getSequence();
const greedy = [];
if (asked.count) {
    for await (const token of sequence.evaluate(asked.prompt, {temperature: 0, yieldEogToken: true})) {
        greedy.push(token);
        if (greedy.length >= asked.count) break;
    }
}
let nats = 0;
if (asked.row.length > 1) {
    await sequence.clearHistory();
    const input = asked.row.slice(0, -1).map((token) => [token, {generateNext: {probabilities: true}}]);
    const found = await sequence.controlledEvaluate(input);
    for (let place = 0; place < input.length; place++)
        nats -= Math.log(found[place].next.probabilities.get(asked.row[place + 1]));
}
process.stdout.write(JSON.stringify({tokens, greedy, nats}));
process.exit(0);
