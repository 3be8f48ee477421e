/* Requests to the server that sent this page; asks for its token where it needs one. */
import { $ } from "./dom.js";

const KEY = "recsys-dl-token";
let asking = null;

function askToken() {
  asking ??= new Promise((done) => {
    const dialog = $("ask");
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, $("token").value.trim());
      $("token").value = "";
      asking = null;
      done();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

export async function ask(path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  const token = sessionStorage.getItem(KEY);
  if (token) headers.Authorization = `Bearer ${token}`;
  const request = body === undefined ? { headers, signal } : { method: "POST", headers, signal, body: JSON.stringify(body) };
  const answer = await fetch(path, request);
  if (answer.status === 401) {
    await askToken();
    return ask(path, body, signal);
  }
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.error ?? `the server answered ${answer.status}`);
  return content;
}

export const get = (path, parameters, signal) => ask(`${path}?${new URLSearchParams(parameters)}`, undefined, signal);
