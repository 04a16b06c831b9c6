-- A journal of schema version 1, written by the first edition, with jobs in every state;
-- what the first edition reads from it is in journal-v1.json.
PRAGMA application_id = 1466528367;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE files (
        job INTEGER NOT NULL, attempt INTEGER NOT NULL, n INTEGER NOT NULL,
        name TEXT NOT NULL DEFAULT '', url TEXT NOT NULL DEFAULT '', content_type TEXT NOT NULL DEFAULT '',
        size INTEGER, path TEXT NOT NULL DEFAULT '', sha256 TEXT NOT NULL DEFAULT '', saved_at REAL,
        PRIMARY KEY (job, attempt, n)) WITHOUT ROWID;
INSERT INTO "files" VALUES(3,1,0,'0.mp4','https://cdn1.wiro.ai/5002/0.mp4','video/mp4',11,'/clips/ended_0.mp4','abababababababababababababababababababababababababababababababab',1700000004.0);
INSERT INTO "files" VALUES(3,1,1,'1.mp4','https://cdn1.wiro.ai/5002/1.mp4','video/mp4',NULL,'','',NULL);
INSERT INTO "files" VALUES(4,1,0,'0.mp4','https://cdn1.wiro.ai/5003/0.mp4','video/mp4',1099511627776,X'2F636C6970732FEDB3A95F302E6D7034','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',1700000075.0);
INSERT INTO "files" VALUES(10,3,0,'0.mp4','https://cdn1.wiro.ai/5006/0.mp4','video/mp4',10,'','',NULL);
INSERT INTO "files" VALUES(10,4,0,'0.mp4','https://cdn1.wiro.ai/5007/0.mp4','video/mp4',5,'/clips/again_0.mp4','efefefefefefefefefefefefefefefefefefefefefefefefefefefefefefefef',1700000100.0);
CREATE TABLE jobs (
        job INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, model TEXT NOT NULL, inputs TEXT NOT NULL,
        state TEXT NOT NULL, attempt INTEGER NOT NULL);
INSERT INTO "jobs" VALUES(1,'intended','MiniMax/image-to-video-01-director','{"prompt":"waves of intended"}','intended',1);
INSERT INTO "jobs" VALUES(2,'running','MiniMax/image-to-video-01-director','{"prompt":"waves of running"}','running',1);
INSERT INTO "jobs" VALUES(3,'ended','MiniMax/image-to-video-01-director','{"image":{"$path":"shots/a.jpg"},"prompt":"[Zoom in] waves 🌊"}','ended',1);
INSERT INTO "jobs" VALUES(4,'done','MiniMax/image-to-video-01-director','{"prompt":"waves of done"}','done',1);
INSERT INTO "jobs" VALUES(5,'failed','MiniMax/image-to-video-01-director','{"prompt":"waves of failed"}','failed',1);
INSERT INTO "jobs" VALUES(6,'cancelled','MiniMax/image-to-video-01-director','{"prompt":"waves of cancelled"}','cancelled',1);
INSERT INTO "jobs" VALUES(7,'unknown','MiniMax/image-to-video-01-director','{"prompt":"waves of unknown"}','unknown',1);
INSERT INTO "jobs" VALUES(8,'refused','MiniMax/image-to-video-01-director','{"prompt":"waves of refused"}','refused',1);
INSERT INTO "jobs" VALUES(9,'given up','MiniMax/image-to-video-01-director','{"prompt":"waves of given up"}','failed',1);
INSERT INTO "jobs" VALUES(10,'again','MiniMax/image-to-video-01-director','{"prompt":"waves of again"}','done',4);
INSERT INTO "jobs" VALUES(11,'exchanged','MiniMax/image-to-video-01-director','{"prompt":"waves of exchanged"}','running',1);
INSERT INTO "jobs" VALUES(12,'6655efedffb7acff456200c40b8228dd-0','MiniMax/image-to-video-01-director','{"file":{"$path":"shots/b.jpg"},"odd":{"$path_hex":"636166edb3a92e6a7067"},"bytes":{"$sha256":"41e5787e9f28562d07b891b1816b492309d646c0f2829743fa4963a9f9cc1d61","$size":4},"$$path":"no file","n":6,"x":0.5,"flag":true,"none":null,"list":[1,{"$$size":"a"},"é"]}','intended',1);
CREATE TABLE learned (
        name TEXT PRIMARY KEY, data TEXT NOT NULL, learned_at REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "learned" VALUES('batch','{"options":{"retry_failed":1}}',1700000200.0);
INSERT INTO "learned" VALUES('durations','{"models":{"minimax/image-to-video-01-director":[60.5,61.0]}}',1700000200.0);
INSERT INTO "learned" VALUES('prices','{"models":{"minimax/image-to-video-01-director":["0.28",3]}}',1700000200.0);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('created_at','1700000000.000');
INSERT INTO "meta" VALUES('created_by','wiro_async 0.1.0');
CREATE TABLE runs (
        job INTEGER NOT NULL, attempt INTEGER NOT NULL,
        names TEXT NOT NULL, digest TEXT NOT NULL, marker TEXT NOT NULL, sent_at REAL NOT NULL,
        task_id TEXT NOT NULL DEFAULT '', token TEXT, accepted_at REAL,
        status TEXT NOT NULL DEFAULT '', status_at REAL,
        outcome TEXT, cost INTEGER, elapsed REAL, ended_at REAL,
        error TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (job, attempt)) WITHOUT ROWID;
INSERT INTO "runs" VALUES(1,1,'["prompt"]','1be0ae6ee72e1c77aa2aa87036813267ca04a0a74fd641445db007b8befada9d','marker-1',1700000000.25,'',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,'','');
INSERT INTO "runs" VALUES(2,1,'["prompt"]','a670dc77c2a0b915245dfc0e5bbcbba95497beb3a341cfbd2ba5e28e24b52fbf','marker-2',1700000001.5,'5001','token-5001',1700000002.125,'task_start',1700000009.5,NULL,NULL,NULL,NULL,'','');
INSERT INTO "runs" VALUES(3,1,'["image","prompt"]','819ae79c50eeb94bae3d0709e7e807b6e7b7da919272025b5a061f57b182fcd2','',1700000003.0,'5002',NULL,1700000004.0,'',NULL,'succeeded',350000000000,60.5,1700000064.5,'','');
INSERT INTO "runs" VALUES(4,1,'["prompt"]','4bd2851c30b10dbcbe50e8ee19ae4477f4638aecda3ae9d7a2e45eb58855be94','marker-4',1700000005.0,'5003','token-5003',1700000006.0,'task_queue',1700000006.5,'succeeded',280000000001,61.0,1700000070.0,'','');
INSERT INTO "runs" VALUES(5,1,'["prompt"]','31635c2b0736c10051b8e38b1682e966ab3f6cffe3b9c6febdaf18249dc0e545','',1700000007.0,'5004','token-5004',1700000075.0,'',NULL,'failed',0,6.0,1700000080.0,'','no face found');
INSERT INTO "runs" VALUES(6,1,'["prompt"]','b3d4400a68cd0935d973cd2a72c1db2c3edf6b45750178f4bd21e8c61bb073a2','',1700000008.0,'5005','token-5005',1700000075.0,'',NULL,'cancelled',NULL,NULL,1700000081.0,'','');
INSERT INTO "runs" VALUES(7,1,'["prompt"]','f9abf3e9ad57ab9ef0679a4859d78a9424cda2116d3058a33e8de5de80d5ee78','marker-7',1700000009.0,'',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,'SubmissionUnknown','ReadTimeout');
INSERT INTO "runs" VALUES(8,1,'["prompt"]','00cb37326ebe7f31bdbcfd1ceb6e2c43df543285c6b1b11d8f279df78699c463','',1700000010.0,'',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,'InsufficientBalance','no money');
INSERT INTO "runs" VALUES(9,1,'["prompt"]','7dfa77cda77dc11baccbc1b5efe553d553aaa6b0a9ea68cdc736cb9db9a5f10f','',1700000011.0,'',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,'SubmissionUnknown','not found');
INSERT INTO "runs" VALUES(10,1,'["prompt"]','b7bd88cc9b3f56d8b3c5a539210300f870d403aaa36f554e5ce13cf3122fe844','',1700000012.0,'',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,'RateLimited','later');
INSERT INTO "runs" VALUES(10,2,'["prompt"]','b7bd88cc9b3f56d8b3c5a539210300f870d403aaa36f554e5ce13cf3122fe844','',1700000013.0,'',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,'ConcurrencyLimited','later');
INSERT INTO "runs" VALUES(10,3,'["prompt"]','b7bd88cc9b3f56d8b3c5a539210300f870d403aaa36f554e5ce13cf3122fe844','',1700000014.0,'5006','token-5006',1700000075.0,'',NULL,'failed',70000000000,NULL,1700000090.0,'','no face found');
INSERT INTO "runs" VALUES(10,4,'["prompt"]','b7bd88cc9b3f56d8b3c5a539210300f870d403aaa36f554e5ce13cf3122fe844','marker-9',1700000091.0,'5007','token-5007',1700000100.0,'',NULL,'succeeded',9200000000000000000,59.0,1700000150.0,'','');
INSERT INTO "runs" VALUES(11,1,'["prompt"]','6ed904a009a5b76a9e1cdf23ba29dc4f8fd3cfb676514adba38a44d3e23b8c3f','',1700000015.0,'5009',NULL,1700000100.0,'task_a_status_of_the_future',NULL,NULL,NULL,NULL,NULL,'','');
INSERT INTO "runs" VALUES(12,1,'["$path","bytes","file","flag","list","n","none","odd","x"]','803acc04a133236d9d1ceb2513c5aa0df2c1492e2443f8df421faf0663dd9ee0','',1700000016.0,'',NULL,NULL,'',NULL,NULL,NULL,NULL,NULL,'','');
CREATE TABLE uploads (
        sha256 TEXT PRIMARY KEY, url TEXT NOT NULL, size INTEGER, uploaded_at REAL NOT NULL) WITHOUT ROWID;
INSERT INTO "uploads" VALUES('1111111111111111111111111111111111111111111111111111111111111111','https://cdn1.wiro.ai/up/1.jpg',4,1700086340.0);
INSERT INTO "uploads" VALUES('2222222222222222222222222222222222222222222222222222222222222222','https://cdn1.wiro.ai/up/2.jpg',9,1699999940.0);
CREATE INDEX jobs_state ON jobs (state, job);
COMMIT;
