// The page: what its data block holds, drawn where the page has a place for it.

import { mount } from "./explorer.js";

mount(document.getElementById("explorer"), JSON.parse(document.getElementById("data").textContent), { address: true });
