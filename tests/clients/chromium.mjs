// Chromium at CHROMIUM, whose files are in the current folder, and what went wrong in its pages.

import assert from "node:assert/strict";

import { chromium } from "playwright-core";

const chrome = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ["--no-sandbox"],
  env: { ...process.env, HOME: process.cwd() },
});

const problems = [];

// A page of a browser in which nobody is signed in.
export async function openBrowser() {
  const context = await chrome.newContext();
  context.setDefaultTimeout(60_000);
  context.on("console", (it) => {
    if (["error", "warning"].includes(it.type())) problems.push(`${it.type()}: ${it.text()}`);
  });
  context.on("weberror", (it) => problems.push(`uncaught: ${it.error()}`));
  context.on("requestfailed", (it) => {
    const { errorText } = it.failure();
    // A page that is left aborts its requests.
    if (errorText !== "net::ERR_ABORTED") problems.push(`${it.url()}: ${errorText}`);
  });
  return context.newPage();
}

// Runs flows one after the other. Nothing may go wrong in a page.
export async function runFlows(...flows) {
  try {
    for (const flow of flows) await flow();
    assert.deepEqual(problems, []);
  } catch (error) {
    console.error(problems);
    throw error;
  } finally {
    await chrome.close();
  }
}
