"""A program of JavaScript whose runtime lists the code that it makes."""

OPTIONS = ("--perf-basic-prof", "--interpreted-frames-native-stack")
"""Of node, which writes a log of its own where it was started."""
JAVASCRIPT = """
let kept = [];
function makeBuffer(i) { kept.push(new Uint8Array(70000 + i % 7)); }
function handleRequest(i) { makeBuffer(i); }
function laterOne(i) { makeBuffer(i); }
console.log("ready");
require("readline").createInterface({input: process.stdin}).on("line", (line) => {
    const f = line === "later" ? laterOne : handleRequest;
    for (let i = 0; i < 300; i++) f(i);
    kept = [];
    console.log("ok");
});
"""
"""Makes blocks for each line that it is told, and answers."""
