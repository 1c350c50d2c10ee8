!function(w,d,n){var s=d.currentScript,a=s.dataset,u=new URL("collect?site="+encodeURIComponent(a.site||""),s.src).href,q=[],t,b=0,busy,ok=a.consent=="true",p,f=d.referrer
function id(){if(w.crypto.randomUUID)return w.crypto.randomUUID();return"10000000-1000-4000-8000-100000000000".replace(/[018]/g,function(c){return(c^w.crypto.getRandomValues(new Uint8Array(1))[0]&15>>c/4).toString(16)})}
function track(type,props){var e={event_id:id(),type:type,page:location.href,referrer:f,title:d.title,client_time:new Date().toISOString(),consent:ok}
if(props)e.props=props
if(q.length<1e3&&JSON.stringify(e).length<3e4)q.push(e)
later(500)}
function later(ms){t=t||setTimeout(send,ms)}
function part(i){var m=[],l=0;for(;i<q.length&&(l+=JSON.stringify(q[i]).length)<3e4;i++)m.push(q[i]);return m}
function post(m){return fetch(u,{method:"POST",body:JSON.stringify(m),keepalive:true,credentials:"include"})}
function send(){t=0;if(busy||!q.length)return
var m=part(0);busy=1
post(m).then(function(r){if(r.status>=500||r.status==429||r.status==408)throw r
q=q.filter(function(e){return m.indexOf(e)<0});b=0}).catch(function(){b=b<6?b+1:6}).then(function(){busy=0;if(q.length)later(b?500<<b:50)})}
function bye(){for(var i=0,m;(m=part(i)).length;i+=m.length)if(!(n.sendBeacon&&n.sendBeacon(u,JSON.stringify(m))))try{post(m).catch(function(){})}catch(x){}}
function view(){if(p!=location.href){f=p||f;p=location.href;track("view")}}
d.addEventListener("visibilitychange",function(){if(d.visibilityState=="hidden")bye()})
w.addEventListener("pagehide",bye)
w.addEventListener("popstate",view)
var h=history.pushState;history.pushState=function(){h.apply(history,arguments);view()}
d.addEventListener("click",function(e){var c=e.target.closest&&e.target.closest("[data-track]");if(c)track("click",Object.assign({},c.dataset))},true)
w.entrepot={track:track,consent:function(y){ok=!!y}}
view()}(window,document,navigator)
